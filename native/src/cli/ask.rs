//! `eblora eval` and `eblora predict`: a run's model after a task, measured again or asked.

use std::fmt::Write as _;
use std::io::Read;

use serde_json::json;

use super::args::{EvalArgs, LearntArgs, PredictArgs};
use super::print;
use crate::Error;
use crate::run::{Learnt, RunError};

fn open(args: &LearntArgs) -> Result<Learnt, Error> {
    let mut learnt = Learnt::open(&args.run, args.method.as_deref(), args.task.as_deref(), args.base)?;
    if let Some(device) = &args.device {
        learnt.config.device = device.to_string();
    }
    learnt.config.threads = args.threads.or(learnt.config.threads);
    Ok(learnt)
}

/// Measures the model on the run's tasks.
pub fn eval(args: &EvalArgs) -> Result<(), Error> {
    let mut learnt = open(&args.learnt)?;
    learnt.config.train.test_samples = args.test_samples.or(learnt.config.train.test_samples);
    let measured = learnt.measure(args.on.as_deref())?;
    if args.json {
        let accuracy: serde_json::Map<_, _> = measured.iter().map(|(name, a)| (name.clone(), (*a).into())).collect();
        print(&format!("{}\n", json!({ "after": learnt.task, "accuracy": accuracy })));
        return Ok(());
    }
    let width = measured.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("mean".len());
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, accuracy) in &measured {
        let _ = writeln!(text, "{name:<width$}  {accuracy:5.1} %");
    }
    let mean = measured.iter().map(|(_, accuracy)| accuracy).sum::<f64>() / measured.len().max(1) as f64;
    let _ = writeln!(text, "{:<width$}  {mean:5.1} %", "mean");
    print(&text);
    Ok(())
}

/// Asks the model.
pub fn predict(args: &PredictArgs) -> Result<(), Error> {
    let learnt = open(&args.learnt)?;
    let inputs = match args.inputs.as_slice() {
        [only] if only == "-" => lines()?,
        inputs => inputs.to_vec(),
    };
    let answers = learnt.ask(&inputs)?;
    let mut text = String::new();
    for (input, answers) in inputs.iter().zip(&answers) {
        let best = &answers[..answers.len().min(args.top)];
        if args.json {
            let _ = writeln!(text, "{}", json!({ "input": input, "answers": best }));
            continue;
        }
        let shown = |answer: &crate::run::Answer| match answer.confidence {
            Some(confidence) => format!("{} {:.1} %", answer.answer, 100.0 * confidence),
            None => answer.answer.trim().to_owned(),
        };
        let best: Vec<_> = best.iter().map(shown).collect();
        let _ = writeln!(text, "{}", best.join(", "));
    }
    print(&text);
    Ok(())
}

/// Standard input, line by line; an empty one is refused where it is asked, so that answers stand beside their lines.
fn lines() -> Result<Vec<String>, Error> {
    let mut text = String::new();
    let unreadable = |source| RunError::Read { file: "standard input".into(), source };
    std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    if text.is_empty() {
        return Err(RunError::NoText { place: "standard input".to_owned() }.into());
    }
    Ok(text.lines().map(str::to_owned).collect())
}
