//! `ringfleet config get-contexts|use-context|view`

use clap::Subcommand;
use serde::Serialize;

use crate::app::App;
use crate::config::ConfigFile;
use crate::error::CtlResult;
use crate::out::{self, Table};

/// The verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// List the contexts.
    GetContexts,
    /// Make a context the current one.
    UseContext {
        /// Its name.
        name: String,
    },
    /// Print the configuration.
    View,
}

#[derive(Debug, Serialize)]
struct ContextRow {
    name: String,
    current: bool,
    cluster: String,
    credentials: String,
}

/// Carries the verb out.
pub fn run(app: &App, verb: &ConfigVerb) -> CtlResult {
    let path = app.config_path()?;
    let mut file = ConfigFile::load(&path)?;
    match verb {
        ConfigVerb::GetContexts => {
            let current = file.current_context.clone();
            let row = |entry: crate::config::ContextEntry| ContextRow {
                current: current.as_deref() == Some(&entry.name),
                name: entry.name,
                cluster: entry.cluster,
                credentials: entry.credentials,
            };
            let rows: Vec<ContextRow> = file.contexts.into_iter().map(row).collect();
            out::print(app.global.output, &rows, |rows| {
                let mut table = Table::new(&["CURRENT", "NAME", "CLUSTER", "CREDENTIALS"]);
                for row in rows {
                    let mark = if row.current { "*" } else { "" };
                    table.row([mark.to_owned(), row.name.clone(), row.cluster.clone(), row.credentials.clone()]);
                }
                table.render()
            })
        }
        ConfigVerb::UseContext { name } => {
            // Checks that everything it names is there, before it becomes what every verb uses.
            file.context(Some(name), &path)?;
            file.current_context = Some(name.clone());
            file.save(&path)?;
            eprintln!("context {name} is current");
            Ok(())
        }
        ConfigVerb::View => out::print(app.global.output, &file, |file| {
            serde_yaml_ng::to_string(file).unwrap_or_else(|error| format!("# {error}\n"))
        }),
    }
}
