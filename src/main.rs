//! The `llava-gauge` command.
fn main() {}
