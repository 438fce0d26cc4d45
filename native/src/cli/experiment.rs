//! `eblora experiment`: a claim of the paper, tested.

use super::args::ExperimentArgs;
use super::demo::style;
use super::print;
use crate::Error;
use crate::config::RunConfig;
use crate::demo::DemoConfig;
use crate::experiment::{self, Setting};
use crate::formats::atomic;
use crate::progress;
use crate::report::finding_page;

pub fn run(args: &ExperimentArgs) -> Result<(), Error> {
    let config = args.config.as_ref().map(|file| RunConfig::read(file, &[])).transpose()?;
    let setting = Setting {
        config,
        seeds: args.seeds.clone(),
        quick: args.quick,
        threads: args.threads.unwrap_or(DemoConfig::default().threads),
        device: args.device.clone(),
    };
    // What can't be written is known before anything is trained.
    atomic::prepare_folder(&args.out)?;
    let mut sink = progress::standard(args.quiet);
    let finding = experiment::run(args.name, &setting, sink.as_mut())?;
    drop(sink); // the bars must be gone before the table
    let name = args.name.as_str();
    let page = args.out.join(format!("{name}.html"));
    atomic::write(&args.out.join(format!("{name}.json")), finding.to_json().as_bytes())?;
    atomic::write(&page, finding_page::render(&finding).as_bytes())?;
    print(&finding.text(style()));
    print(&format!("page: {}\n", page.display()));
    Ok(())
}
