//! `ringfleet completions SHELL`

use clap::{Args, CommandFactory};

use crate::args::Cli;
use crate::error::CtlResult;
use crate::out;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Writes the script.
pub fn run(args: &CompletionsArgs) -> CtlResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ringfleet", &mut script);
    out::write_text(&String::from_utf8_lossy(&script))
}
