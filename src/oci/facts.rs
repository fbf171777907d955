//! An image config -> the few facts in it that decide what the image can be used for.

use serde::Deserialize;
use serde::de::Error as _;

use super::{DiffId, Platform, PlatformBuilder};

/// What an image config says, of Docker's or of an OCI image. Everything else in it is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Where it runs; `None` for an artifact.
    pub platform: Option<Platform>,
    /// The environment, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The tars of its layers, the lowest first.
    pub diff_ids: Vec<DiffId>,
}

impl ImageFacts {
    /// Reads the config in `bytes`.
    ///
    /// # Errors
    /// If it is no JSON of this form, or a diff_id is no digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Stated {
            #[serde(default)]
            os: String,
            #[serde(default)]
            architecture: String,
            variant: Option<String>,
            config: Option<Process>,
            #[serde(default)]
            rootfs: Tars,
        }
        #[derive(Deserialize)]
        struct Process {
            #[serde(rename = "Env")]
            environment: Option<Vec<String>>,
        }
        #[derive(Deserialize, Default)]
        struct Tars {
            #[serde(default)]
            diff_ids: Vec<String>,
        }
        let stated: Stated = serde_json::from_slice(bytes)?;
        let diff_ids = stated.rootfs.diff_ids.iter().map(|text| text.parse().map(DiffId));
        let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>().map_err(serde_json::Error::custom)?;
        let platform = (!stated.os.is_empty() && !stated.architecture.is_empty()).then(|| {
            let builder =
                PlatformBuilder::default().os(stated.os.as_str()).architecture(stated.architecture.as_str());
            let builder = match stated.variant.filter(|variant| !variant.is_empty()) {
                Some(variant) => builder.variant(variant),
                None => builder,
            };
            builder.build().ok()
        });
        let environment = stated.config.and_then(|config| config.environment).unwrap_or_default();
        Ok(Self { platform: platform.flatten(), environment, diff_ids })
    }

    /// Returns the value of PATH.
    pub fn path(&self) -> Option<&str> {
        self.environment.iter().find_map(|variable| variable.strip_prefix("PATH="))
    }
}
