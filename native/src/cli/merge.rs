//! `eblora merge`: several adapters as one.

use eblora_core::adapter::Smoothing;

use super::args::{MergeArgs, Smooth};
use super::print;
use crate::Error;
use crate::peft::folder::CONFIG_FILE;
use crate::peft::{PeftAdapter, PeftError, merged, sum};

pub fn run(args: &MergeArgs) -> Result<(), Error> {
    let weights = match args.weights.len() {
        0 => vec![1.0; args.adapters.len()],
        _ => args.weights.clone(),
    };
    if weights.len() != args.adapters.len() {
        return Err(PeftError::Count { adapters: args.adapters.len(), weights: weights.len() }.into());
    }
    let smooth = match args.smooth {
        Smooth::None => None,
        Smooth::Mean => Some(Smoothing::Mean),
        Smooth::Frobenius => Some(Smoothing::Frobenius),
    };
    let adapters: Vec<_> = args.adapters.iter().map(PeftAdapter::read).collect::<Result<_, _>>()?;
    let one = sum::merge(&adapters, &weights, smooth)?;
    check_not_empty(&one, "the merged adapter")?;
    merged::prepare_empty(&args.out)?;
    one.write(&args.out)?;
    print(&format!("{}: {}\n", args.out.join(CONFIG_FILE).display(), summary(&one)));
    Ok(())
}

/// Fails for an adapter that PEFT could not load.
pub fn check_not_empty(adapter: &PeftAdapter, what: &str) -> Result<(), PeftError> {
    match adapter.layers.iter().any(|layer| layer.lora.rank() > 0) {
        true => Ok(()),
        false => Err(PeftError::Empty { what: what.to_owned() }),
    }
}

/// `36 layers, ranks 8 to 24`.
pub fn summary(adapter: &PeftAdapter) -> String {
    let ranks = || adapter.layers.iter().map(|layer| layer.lora.rank()).filter(|rank| *rank > 0);
    let (least, most) = (ranks().min().unwrap_or(0), ranks().max().unwrap_or(0));
    let ranks_text = if least == most { format!("rank {most}") } else { format!("ranks {least} to {most}") };
    format!("{} layer(s), {ranks_text}", ranks().count())
}
