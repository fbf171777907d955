//! A wanted platform and what an index offers -> the entry to use.

use super::{Descriptor, Platform, PlatformBuilder};

/// Returns the entry for `wanted`: of several that it can run, the one for the newest variant.
pub fn choice<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let ranked = manifests.iter().filter_map(|it| Some((rank(wanted, it.platform().as_ref()?)?, it)));
    let mut best: Option<(u32, &Descriptor)> = None;
    for (rank, descriptor) in ranked {
        // Of equals the first one counts, as in every other tool.
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, descriptor));
        }
    }
    best.map(|(_, descriptor)| descriptor)
}

/// Returns whether something made for `offered` runs on `wanted`.
pub fn suits(wanted: &Platform, offered: &Platform) -> bool {
    rank(wanted, offered).is_some()
}

fn rank(wanted: &Platform, offered: &Platform) -> Option<u32> {
    if wanted.os() != offered.os() || wanted.architecture() != offered.architecture() {
        return None;
    }
    let (wanted, offered) = (variant(wanted)?, variant(offered)?);
    (offered <= wanted).then_some(offered)
}

/// Returns the number in a variant such as `v7`, or the one that an architecture has without.
fn variant(platform: &Platform) -> Option<u32> {
    match platform.variant() {
        Some(text) if !text.is_empty() => text.trim_start_matches('v').parse().ok(),
        _ => Some(match platform.architecture().to_string().as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        }),
    }
}

/// Returns the platform that `text` names as `os/architecture[/variant]`; `None` if it is no such text. A variant that
/// goes without saying is left out, as images leave it out.
pub fn parse(text: &str) -> Option<Platform> {
    let mut parts = text.split('/');
    let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_known = [Some(os), Some(architecture), variant].into_iter().flatten().all(is_word);
    if !is_known || parts.next().is_some() {
        return None;
    }
    let builder = PlatformBuilder::default().os(os).architecture(architecture);
    let said = !matches!((architecture, variant), ("arm64", Some("v8")) | ("amd64", Some("v1")));
    let builder = match variant.filter(|_| said) {
        Some(variant) => builder.variant(variant),
        None => builder,
    };
    builder.build().ok()
}

/// Returns the platform of this machine.
pub fn host() -> Platform {
    // As Go names them, which is how images do (image-spec, config.md).
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    };
    let mut platform = Platform::default();
    platform.set_os("linux".into());
    platform.set_architecture(architecture.into());
    platform
}

/// Returns `os/architecture/variant`.
pub fn shown(platform: &Platform) -> String {
    let text = match platform.variant() {
        Some(variant) => format!("{}/{}/{variant}", platform.os(), platform.architecture()),
        None => format!("{}/{}", platform.os(), platform.architecture()),
    };
    crate::path::show(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType, descriptor};

    fn platform(text: &str) -> Platform {
        parse(text).unwrap()
    }

    #[test]
    fn a_platform_is_two_or_three_words() {
        for text in ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(shown(&platform(text)), text);
        }
        assert_eq!(shown(&platform("linux/arm64/v8")), "linux/arm64");
        for bad in ["", "linux", "linux/", "linux/amd64/", "linux/arm/v7/x", "Linux/amd64", "linux/x y"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        for (offered, wanted, want) in [
            ("linux/amd64 linux/arm64/v8", "linux/amd64", Some(0)),
            ("linux/amd64 linux/arm64/v8", "linux/arm64", Some(1)),
            ("linux/arm64 linux/amd64", "linux/arm64/v8", Some(0)),
            ("linux/arm/v5 linux/arm/v7 linux/arm/v6", "linux/arm", Some(1)),
            ("linux/arm/v5 linux/arm/v7 linux/arm/v6", "linux/arm/v6", Some(2)),
            ("linux/amd64/v3 linux/amd64", "linux/amd64", Some(1)),
            ("linux/amd64/v3 linux/amd64", "linux/amd64/v4", Some(0)),
            ("unknown/unknown linux/s390x", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
            ("", "linux/amd64", None),
        ] {
            let entries: Vec<Descriptor> = (offered.split_whitespace().enumerate())
                .map(|(at, text)| {
                    let mut entry = descriptor(MediaType::ImageManifest, Digest::of(&[0]), at as u64);
                    entry.set_platform(Some(platform(text)));
                    entry
                })
                .collect();
            let got = choice(&entries, &platform(wanted)).map(Descriptor::size);
            assert_eq!(got, want, "{offered} for {wanted}");
        }
    }
}
