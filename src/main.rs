//! The `llava-gauge` command: parses arguments, runs a verb, prints an error once, and ends with a documented exit code.

fn main() -> std::process::ExitCode {
    llava_gauge::cli::main()
}
