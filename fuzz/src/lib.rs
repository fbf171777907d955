//! What the fuzz targets share: the macro that makes a program of one, and the plain mutation loop.

mod memory;
mod mutate;
mod plain;

pub use plain::run;

/// Makes a program of `check`, which panics for an input that breaks a promise, and `seeds`, which are well-formed
/// inputs. `check` returns a number that is the same for inputs that are treated alike.
///
/// Under cargo-fuzz the program is libFuzzer's; otherwise it is the plain loop.
#[macro_export]
macro_rules! target {
    ($check:path, $seeds:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            // The seeds are of use to the plain loop alone.
            let _ = ($check(bytes), $seeds as fn() -> Vec<Vec<u8>>);
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::run(env!("CARGO_BIN_NAME"), $check, $seeds())
        }
    };
}

/// Returns a number for what a check saw: the same for the same kinds of things in about the same quantity.
pub fn signature(parts: &[usize]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| {
        // Up to eight a number counts as it is, beyond that by its length.
        let size = if *part < 8 { *part as u64 } else { 8 + u64::from(part.ilog2()) };
        (hash ^ size).wrapping_mul(0x0100_0000_01b3)
    })
}
