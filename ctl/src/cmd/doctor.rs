//! `ringfleet doctor`: what this machine has for GPUs, what is missing, and how to get it.

use clap::Args;
use ringfleet_gpu::cuda::doctor::{Asked, Report, State, judge};
use ringfleet_gpu::cuda::look::look;

use crate::app::App;
use crate::devices::{DeviceList, Fabric};
use crate::error::{CtlError, CtlResult};
use crate::out::{self, Table};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What a node is to run on, as its --devices says. What these devices need and is not there makes the verb fail.
    #[arg(long, value_name = "LIST", default_value = "auto")]
    pub devices: DeviceList,
    /// How the GPUs of a node are to share memory.
    #[arg(long, value_enum, default_value_t)]
    pub fabric: Fabric,
}

/// Carries the verb out.
pub fn run(app: &App, args: &DoctorArgs) -> CtlResult {
    let asked = Asked { gpus: args.devices.gpus(), nvshmem: args.fabric == Fabric::Nvshmem };
    let report = judge(&look(), &asked);
    out::print(app.global.output, &report, table)?;
    if report.is_well() {
        return Ok(());
    }
    let missing: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .map(|finding| finding.what.as_str())
        .collect();
    Err(CtlError::failed("looking at this machine", format!("missing: {}", missing.join(", "))))
}

fn table(report: &Report) -> String {
    let mut table = Table::new(&["WHAT", "STATE", "SEEN", "HINT"]);
    for finding in &report.findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Absent => "absent",
            State::Warning => "warning",
            State::Missing => "missing",
        };
        table.row([finding.what.clone(), state.to_owned(), finding.seen.clone(), finding.hint.clone()]);
    }
    let usable = match report.usable.as_slice() {
        [] => "no GPU is usable: actors run on the CPU".to_owned(),
        all => format!("usable GPUs: {}", all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!("{}\n{usable}\n", table.render().trim_end())
}
