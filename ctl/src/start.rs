//! From the command line to an exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use ringfleet_actor::{TypeDescriptor, TypeRegistry};
use ringfleet_env::Env;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::args::{Cli, GlobalArgs, LogFormat, Verb};
use crate::cmd;
use crate::cmd::device::DeviceVerb;
use crate::error::{CtlError, CtlResult, Exit};
use crate::local::LOG_DEFAULT;

/// Threads of the runtime, most: a node has threads of its own for its device and its membership.
const THREADS_MAX: usize = 8;

/// The whole `main` of a build with these actor types: parses the command line, does what it says, reports the outcome.
///
/// Not to be called inside an async runtime.
pub fn run(types: Vec<&'static TypeDescriptor>) -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => execute(cli, types),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => crate::out::write_text(&error.to_string()),
            _ => Err(usage(&error)),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit as u8)
        }
    }
}

/// One line of clap's several.
fn usage(error: &clap::Error) -> CtlError {
    let text = error.to_string();
    let cause = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => "a verb is missing",
        _ => text.split("\n\n").next().unwrap_or("").trim_start_matches("error: "),
    };
    CtlError::new(Exit::Usage, format!("reading the command line: {cause} (see --help)"))
}

fn execute(cli: Cli, types: Vec<&'static TypeDescriptor>) -> CtlResult {
    TypeRegistry::new(types.iter().copied())
        .map_err(|error| CtlError::usage("reading the linked actor types", error))?;
    if runs_actors(&cli.verb) {
        check_programs(&types)?;
    }
    let stays = matches!(cli.verb, Verb::Node(_) | Verb::Coordinator(_) | Verb::Device(_));
    start_log(&cli.global, stays)?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let run = |env: Env| async move {
        let app = App::new(types, cli.global, env);
        let done = dispatch(&app, cli.verb).await;
        app.close().await;
        done
    };
    let ran = Env::run_tokio(cores.clamp(2, THREADS_MAX), run);
    ran.map_err(|error| CtlError::failed("starting the runtime", error))?
}

/// Whether a verb runs actors, in this process or in one that it starts.
fn runs_actors(verb: &Verb) -> bool {
    match verb {
        Verb::Demo(_) | Verb::Dev(_) | Verb::Node(_) | Verb::Bench(_) => true,
        Verb::Device(verb) => matches!(verb, DeviceVerb::Run(_)),
        _ => false,
    }
}

/// Every type has to run on every device, so one that only CPUs could run stops a process at its start. A type whose native functions were
/// written without macros has no text to make anything of; it is for CPUs.
fn check_programs(types: &[&'static TypeDescriptor]) -> CtlResult {
    for ty in types.iter().filter(|ty| !ty.code.tree.is_empty()) {
        let made = ty.program().and_then(|program| ringfleet_ir::cuda::device_code(&program));
        made.map_err(|error| {
            let cause = format!("{}:{}: {}", ty.code.file, error.line, error.text);
            CtlError::usage(format!("making the program of actor type {}", ty.name), cause)
        })?;
    }
    Ok(())
}

async fn dispatch(app: &App, verb: Verb) -> CtlResult {
    match verb {
        Verb::Demo(args) => cmd::demo::run(app, &args).await,
        Verb::Dev(verb) => cmd::dev::run(app, &verb).await,
        Verb::Node(args) => cmd::node::run(app, args).await,
        Verb::Doctor(args) => cmd::doctor::run(app, &args),
        Verb::Bench(verb) => cmd::bench::run(app, &verb),
        Verb::Device(verb) => cmd::device::run(app, &verb),
        Verb::Coordinator(args) => cmd::coordinator::run(app, args).await,
        Verb::Coordinators(verb) => cmd::coordinators::run(app, &verb).await,
        Verb::Apply(args) => cmd::apply::run(app, &args).await,
        Verb::Get(verb) => cmd::get::run(app, &verb).await,
        Verb::Describe(verb) => cmd::describe::run(app, &verb).await,
        Verb::Tell(args) => cmd::tell::run(app, &args).await,
        Verb::Ask(args) => cmd::ask::run(app, &args).await,
        Verb::Scale(args) => cmd::scale::run(app, &args).await,
        Verb::Delete(args) => cmd::delete::run(app, &args).await,
        Verb::Status => cmd::status::run(app).await,
        Verb::Actor(verb) => cmd::actor::run(app, &verb).await,
        Verb::Config(verb) => cmd::config::run(app, &verb),
        Verb::Completions(args) => cmd::completions::run(&args),
        Verb::Version => cmd::version::run(app),
    }
}

fn start_log(global: &GlobalArgs, stays: bool) -> CtlResult {
    let filter = global.log.as_deref().unwrap_or(if stays { LOG_DEFAULT } else { "warn" });
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| CtlError::usage(format!("reading the log filter `{filter}`"), error))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Or else a line that cannot be written is reported by `eprintln!`, which panics, as nothing can be written: a full disk under the
    // log would end whatever task logs.
    let log = log.log_internal_errors(false);
    match global.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ringfleet_actor::prelude::*;

    use super::*;

    #[message]
    pub struct Look {}

    /// Native code compares arrays of any length; a program compares its elements one by one, and has a bound for them.
    #[actor(name = "test.wide", init = zero)]
    pub struct Wide {
        now: [u32; 65],
        before: [u32; 65],
        same: u64,
    }

    #[handlers]
    impl Wide {
        fn on_look(&mut self, _m: &Look, _ctx: &mut Ctx) {
            if self.now == self.before {
                self.same += 1;
            }
        }
    }

    fn ends(arguments: &str, types: Vec<&'static TypeDescriptor>) -> String {
        let cli = Cli::try_parse_from(arguments.split(' ')).expect("a command line");
        execute(cli, types).expect_err("it does not start").to_string()
    }

    #[test]
    fn a_type_without_a_program_is_named_with_file_and_line_before_anything_starts() {
        let text = include_str!("start.rs");
        let line = 1 + text.lines().position(|line| line.contains("self.now == self.before")).expect("the text");
        for verb in ["node --listen 127.0.0.1:0", "dev up", "demo", "bench device", "device run --kind cpu"] {
            let said = ends(&format!("ringfleet {verb}"), types![Wide]);
            let expected = format!("making the program of actor type test.wide: ctl/src/start.rs:{line}: ");
            assert!(said.starts_with(&expected), "{verb}: {said}");
        }
    }

    #[test]
    fn the_shipped_types_have_programs_and_one_without_text_needs_none() {
        check_programs(&ringfleet_actors::types()).expect("they have programs");
        static NATIVE: std::sync::OnceLock<TypeDescriptor> = std::sync::OnceLock::new();
        let native = NATIVE.get_or_init(|| TypeDescriptor {
            code: ringfleet_actor::Code::NONE,
            ..*<Wide as ringfleet_actor::Behaviour>::DESCRIPTOR
        });
        check_programs(&[native]).expect("there is nothing to make");
    }
}
