//! Exit codes, a documented part of the interface.

use std::process::ExitCode;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// An unexpected failure.
    Internal = 1,
    /// Nothing was selected to run.
    NothingSelected = 4,
    /// Every gate passed, but a required run or samples are outstanding.
    Incomplete = 5,
    /// The environment is refused: ONNX Runtime missing or too old, a provider that cannot be used, a hub or a judge that cannot be reached or refuses.
    Environment = 92,
    /// Wrong setup: an unknown benchmark, a bad suite file, an option that does not fit.
    Setup = 96,
    /// A gate failed.
    GateFailed = 100,
    /// Too many samples failed.
    TooManyFailures = 101,
    /// A package, checkpoint or data file was rejected.
    Rejected = 102,
    /// The runs cannot be compared.
    NotComparable = 104,
    /// A run is incomplete or corrupt for what was asked.
    IncompleteRun = 106,
    /// Output could not be written.
    Output = 110,
    /// Interrupted (SIGINT) after a clean checkpoint; the same command continues.
    Interrupted = 130,
    /// Terminated (SIGTERM) after a clean checkpoint; the same command continues.
    Terminated = 143,
}

/// The table of exit codes shown by `--help`.
pub const HELP: &str = "Exit codes:
    0  done, all gates passed
    2  wrong usage
    4  nothing was selected to run
    5  gates passed, but a required run or samples are outstanding
   92  environment refused: ONNX Runtime or the provider asked for missing or unusable, a hub or a judge not reached
   96  wrong setup: unknown benchmark or baseline, bad suite or policy file, checkpoint not cached
  100  a gate failed: worse than the baseline, or beyond a limit of the policy
  101  too many samples failed or were not judged, or a verification failed
  102  package, checkpoint or data rejected
  104  runs are not comparable
  106  run incomplete or corrupt for what was asked
  110  output could not be written
  130  interrupted after a clean checkpoint (143 for SIGTERM); the same command continues
    1  anything else";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code that tells its kind.
#[derive(Debug)]
pub struct Failure {
    /// The error, for people.
    pub error: anyhow::Error,
    exit: Exit,
}

impl Failure {
    /// An error of a given kind.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), exit }
    }

    /// The process's exit code; a reader that closed our standard output is no failure of ours.
    pub fn exit_code(&self) -> ExitCode {
        if self.is_broken_pipe() { Exit::Success.into() } else { self.exit.into() }
    }

    /// Whether standard output was closed by its reader (`llava-gauge … | head`).
    pub fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, error)
    }
}

macro_rules! exit_for {
    ($($error:ty => $rule:expr),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                #[allow(clippy::redundant_closure_call, reason = "a closure lets each rule look at its error")]
                let exit = ($rule)(&error);
                Self::new(exit, error)
            }
        })*
    };
}

exit_for! {
    crate::benchmark::BenchmarkError => |error: &crate::benchmark::BenchmarkError| match error {
        crate::benchmark::BenchmarkError::Unknown { .. } => Exit::Setup,
        _ => Exit::Rejected,
    },
    crate::calibration::CalibrationError => calibration_exit,
    crate::compare::CompareError => |_| Exit::NotComparable,
    crate::compare::AttributionError => |_| Exit::NotComparable,
    crate::swap::SwapError => |error: &crate::swap::SwapError| match error {
        crate::swap::SwapError::Engine(error) => engine_exit(error),
        crate::swap::SwapError::Package(_) | crate::swap::SwapError::Prompt(_) => Exit::Rejected,
        _ => Exit::NotComparable,
    },
    crate::compare::gate::GateError => |error: &crate::compare::gate::GateError| match error {
        crate::compare::gate::GateError::Compare(_) => Exit::NotComparable,
        _ => Exit::Setup,
    },
    crate::engine::EngineError => engine_exit,
    crate::export::synth::SynthError => synth_exit,
    crate::bench::BenchError => bench_exit,
    crate::export::ExportError => |error: &crate::export::ExportError| match error {
        crate::export::ExportError::Option { .. } => Exit::Setup,
        _ => Exit::Rejected,
    },
    crate::guard::files::GuardError => |_| Exit::Rejected,
    crate::hub::HubError => hub_exit,
    crate::judge::JudgeError => judge_exit,
    crate::image::ImageError => |_| Exit::Rejected,
    crate::package::PackageError => |_| Exit::Rejected,
    crate::prompt::PromptError => |_| Exit::Rejected,
    crate::report::ReportError => |_| Exit::Output,
    crate::run::RunError => |error: &crate::run::RunError| match error {
        crate::run::RunError::Engine(error) => engine_exit(error),
        crate::run::RunError::NothingSelected { .. } => Exit::NothingSelected,
        crate::run::RunError::Parity { .. } | crate::run::RunError::Scorer { .. } => Exit::Rejected,
        crate::run::RunError::Embedding(_) => Exit::TooManyFailures,
        _ => Exit::Internal,
    },
    crate::store::StoreError => |_| Exit::IncompleteRun,
    crate::store::BaselineError => |error: &crate::store::BaselineError| match error {
        crate::store::BaselineError::Name { .. }
        | crate::store::BaselineError::Unknown { .. }
        | crate::store::BaselineError::Exists { .. }
        | crate::store::BaselineError::Twice { .. } => Exit::Setup,
        crate::store::BaselineError::Store(crate::store::StoreError::Disk { .. }) => Exit::Output,
        _ => Exit::IncompleteRun,
    },
    crate::web::ServerError => |_| Exit::Setup,
    crate::submission::SubmissionError => |error: &crate::submission::SubmissionError| match error {
        crate::submission::SubmissionError::Incomplete { .. } => Exit::IncompleteRun,
        crate::submission::SubmissionError::NeedsQuestions { .. } | crate::submission::SubmissionError::NoQuestions { .. } => {
            Exit::Setup
        }
        crate::submission::SubmissionError::Workbook(_) => Exit::Output,
        _ => Exit::Rejected,
    },
}

fn hub_exit(error: &crate::hub::HubError) -> Exit {
    use crate::hub::HubError;
    match error {
        HubError::Name { .. }
        | HubError::NotCached { .. }
        | HubError::NoCache
        | HubError::NoEndpoint
        | HubError::Endpoint { .. }
        | HubError::Offline => Exit::Setup,
        HubError::Status { .. } | HubError::Transport { .. } => Exit::Environment,
        HubError::Io { .. } => Exit::Output,
        _ => Exit::Rejected,
    }
}

fn judge_exit(error: &crate::judge::JudgeError) -> Exit {
    use crate::judge::JudgeError;
    match error {
        JudgeError::Address { .. } | JudgeError::Setting { .. } => Exit::Setup,
        JudgeError::Refused { .. } | JudgeError::Unreachable { .. } | JudgeError::Busy { .. } => Exit::Environment,
        JudgeError::Sample { .. } => Exit::Rejected,
        JudgeError::Locked { .. } | JudgeError::File(_) => Exit::IncompleteRun,
        JudgeError::Disk { .. } => Exit::Output,
        JudgeError::Prompts(_) | JudgeError::Thread => Exit::Internal,
    }
}

fn calibration_exit(error: &crate::calibration::CalibrationError) -> Exit {
    use crate::calibration::CalibrationError;
    match error {
        CalibrationError::Precision { .. } | CalibrationError::Foreign { .. } | CalibrationError::Unsuitable { .. } => {
            Exit::Setup
        }
        CalibrationError::Unequal { .. } => Exit::NotComparable,
        CalibrationError::NothingUsable { .. } | CalibrationError::Package(_) | CalibrationError::Prompt(_) => Exit::Rejected,
        CalibrationError::Interrupted => Exit::Interrupted,
        CalibrationError::Io { .. } => Exit::Output,
        CalibrationError::Engine(error) => engine_exit(error),
    }
}

fn engine_exit(error: &crate::engine::EngineError) -> Exit {
    use crate::engine::EngineError;
    match error {
        EngineError::RuntimeMissing(_) => Exit::Environment,
        EngineError::Provider { .. } => Exit::Environment,
        EngineError::Placement { .. } => Exit::Environment,
        EngineError::Graph { .. } | EngineError::File(_) => Exit::Rejected,
        _ => Exit::Internal,
    }
}

fn synth_exit(error: &crate::export::synth::SynthError) -> Exit {
    use crate::export::synth::SynthError;
    match error {
        SynthError::Unknown { .. } | SynthError::Exists { .. } | SynthError::Busy { .. } => Exit::Setup,
        SynthError::Config(_) | SynthError::File(_) | SynthError::Tokens { .. } => Exit::Rejected,
        SynthError::DiskSpace { .. } | SynthError::Io { .. } => Exit::Output,
        SynthError::ReadBack(_) | SynthError::Threads(_) => Exit::Internal,
    }
}

fn bench_exit(error: &crate::bench::BenchError) -> Exit {
    use crate::bench::BenchError;
    match error {
        BenchError::Engine(error) => engine_exit(error),
        BenchError::Test { .. } | BenchError::Sweep { .. } | BenchError::Nothing | BenchError::TooLong { .. } => Exit::Setup,
        BenchError::Foreign { .. } | BenchError::Shapes(_) | BenchError::Tiling(_) => Exit::Rejected,
        BenchError::Graph(_) => Exit::Internal,
    }
}
