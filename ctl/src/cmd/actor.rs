//! `ringfleet actor list|show`

use clap::Subcommand;
use ringfleet_ir::Program;
use ringfleet_proto::control::{TypeInfo, TypeReport};

use crate::actor_types as types;
use crate::app::App;
use crate::error::{CtlError, CtlResult};
use crate::out::{self, Table};

/// The verbs of `actor`.
#[derive(Debug, Subcommand)]
pub enum ActorVerb {
    /// List actor types.
    List {
        /// Those of this build, without asking a cluster.
        #[arg(long)]
        linked: bool,
    },
    /// Show a type's state and messages.
    Show {
        /// The type.
        name: String,
        /// That of this build, without asking a cluster.
        #[arg(long)]
        linked: bool,
        /// Print its handlers as a typed program, from this build.
        #[arg(long, conflicts_with = "cuda")]
        ir: bool,
        /// Print its handlers as CUDA C++, from this build.
        #[arg(long)]
        cuda: bool,
    },
}

/// Carries the verb out.
pub async fn run(app: &App, verb: &ActorVerb) -> CtlResult {
    match verb {
        ActorVerb::List { linked } => out::print(app.global.output, &infos(app, *linked).await?, |infos| list(infos)),
        ActorVerb::Show { name, ir: true, .. } => code(app, name, |program| Ok(ringfleet_ir::show::show(program))),
        ActorVerb::Show { name, cuda: true, .. } => {
            code(app, name, |program| ringfleet_ir::cuda::device_code(program).map(|code| code.text))
        }
        ActorVerb::Show { name, linked, .. } => show(app, name, *linked).await,
    }
}

/// Shows one type, in every version there is.
pub async fn show(app: &App, name: &str, linked: bool) -> CtlResult {
    let mut infos = infos(app, linked).await?;
    let known: Vec<String> = infos.iter().map(|info| info.report.name.clone()).collect();
    infos.retain(|info| info.report.name == name);
    if infos.is_empty() {
        let cause = format!("not known; known are {}", known.join(", "));
        return Err(CtlError::failed(format!("showing actor type {name}"), cause));
    }
    out::print(app.global.output, &infos, |infos| {
        infos.iter().map(|info| page(&info.report, &info.nodes)).collect::<Vec<_>>().join("\n")
    })
}

/// Prints what is made from the handlers of a type of this build.
fn code(app: &App, name: &str, text: impl Fn(&Program) -> Result<String, ringfleet_ir::Error>) -> CtlResult {
    let act = || format!("showing actor type {name}");
    let Some(ty) = app.types.iter().find(|ty| ty.name == name) else {
        let known: Vec<&str> = app.types.iter().map(|ty| ty.name).collect();
        return Err(CtlError::failed(act(), format!("not in this build; it has {}", known.join(", "))));
    };
    let text = ty
        .program()
        .and_then(|program| text(&program))
        .map_err(|error| CtlError::failed(act(), format!("{}: {error}", ty.code.file)))?;
    out::write_text(&text)
}

async fn infos(app: &App, linked: bool) -> CtlResult<Vec<TypeInfo>> {
    if !linked {
        let mut infos = types::reported(&app.cluster()?).await?;
        infos.iter_mut().for_each(|info| info.nodes.sort());
        return Ok(infos);
    }
    let report = |ty: &&'static ringfleet_actor::TypeDescriptor| TypeInfo {
        report: ringfleet_node::report::type_report(ty),
        nodes: Vec::new(),
    };
    let mut infos: Vec<TypeInfo> = app.types.iter().map(report).collect();
    infos.sort_by(|a, b| a.report.name.cmp(&b.report.name));
    Ok(infos)
}

fn list(infos: &[TypeInfo]) -> String {
    let mut table = Table::new(&["NAME", "WIDTH", "STATE BYTES", "MAX SENDS", "HANDLES", "NODES"]);
    for TypeInfo { report, nodes } in infos {
        let handles: Vec<&str> = report.handles.iter().map(|message| message.name.as_str()).collect();
        table.row([
            report.name.clone(),
            report.width.clone(),
            report.state_bytes.to_string(),
            report.max_sends.to_string(),
            handles.join(" "),
            if nodes.is_empty() { "-".to_owned() } else { nodes.join(" ") },
        ]);
    }
    table.render()
}

fn page(report: &TypeReport, nodes: &[String]) -> String {
    let mut text = out::properties(&[
        ("name", report.name.clone()),
        ("width", report.width.clone()),
        ("state bytes", report.state_bytes.to_string()),
        ("max sends", report.max_sends.to_string()),
        ("code hash", format!("{:#018x}", report.code_hash)),
        ("layout hash", format!("{:#018x}", report.layout_hash)),
        ("layout", report.layout.clone()),
        ("nodes", if nodes.is_empty() { "-".to_owned() } else { nodes.join(" ") }),
    ]);
    for (heading, messages) in [("handles", &report.handles), ("replies", &report.replies)] {
        if !messages.is_empty() {
            text += &format!("{heading}:\n");
        }
        for message in messages {
            text += &format!("  {}\n", types::signature(message));
        }
    }
    text
}
