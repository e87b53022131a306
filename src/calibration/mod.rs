//! The calibration room: what really goes into the linear layers of a package when it is asked the questions of a benchmark, summed up
//! per input; and how far the answers of packages of one checkpoint lie apart.
//!
//! It must not quantise or write packages: the export room does that with the sums, and knows no benchmark.

mod agreement;
mod collect;
mod error;
mod gram_file;

pub use agreement::{Agreement, AgreementQuestion, ComparedPackage, PackageComparison, Share, compare_packages};
pub use collect::{CalibrationInput, Collected, Collection, collect};
pub use error::CalibrationError;
pub use gram_file::GramPlace;
