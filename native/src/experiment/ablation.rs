//! EBLoRA with each of its parts exchanged for another.
//!
//! The step conventions `raw` and `authors` differ by a factor that is the same for all layers of one rank. Each is
//! given the rate that makes the same relative step in a layer of the mean size, so that their two rows are one run by
//! construction: they show that the conventions are converted rightly, not which of them is better.

use eblora_core::train::{GradientOrigin, TrainConfig};

use super::ground::{Measured, deviation, mean};
use super::{Experiment, Finding, Ground, finding};
use crate::Error;
use crate::progress::ProgressSink;
use crate::report::finding::{Chart, Table};
use crate::run::{Convention, Initial, MethodConfig, MethodName, Subject, Tangent, WayBack};

const CLAIM: &str = "balancing the energy keeps more than LoRA does, and protecting the earlier gradients' subspace still more: \
    LoRA-FT < EBO < EBLoRA in the accuracy at the end";

/// The variants of a first look: one of an initialisation, one of a retraction.
const QUICK: [&str; 2] = ["random-init", "qr-retraction"];

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let variants = variants(ground)?;
    let mut measured = ground.measure(&variants, progress)?;
    // Where the gradients are taken is a matter of the budget, not of the method.
    let other = match ground.train.gradient_origin {
        GradientOrigin::Merged => (GradientOrigin::Base, "gradients-at-base"),
        GradientOrigin::Base => (GradientOrigin::Merged, "gradients-at-merged"),
    };
    let train = TrainConfig { gradient_origin: other.0, ..ground.train.clone() };
    let moved = [MethodConfig { label: Some(other.1.to_owned()), ..ground.method(MethodName::Eblora) }];
    measured.extend(Ground { train, ..*ground }.measure(&moved, progress)?);
    let labels: Vec<&str> = variants.iter().chain(&moved).map(MethodConfig::label).collect();

    let columns = ["variant", "MFN", "±", "MFT", "BWT", "to eblora", "±", "seconds"];
    let mut table = Table::new(title(&labels), &columns);
    let mut chart = Chart::new("accuracy at the end", "seed", "MFN, %");
    let full =
        labels.iter().position(|label| *label == "eblora").map(|at| measured[at].mfn.clone()).unwrap_or_default();
    for (label, Measured { mfn, mft, bwt, seconds, .. }) in labels.iter().zip(&measured) {
        let paired: Vec<f64> = mfn.iter().zip(&full).map(|(a, b)| a - b).collect();
        let numbers =
            [mean(mfn), deviation(mfn), mean(mft), mean(bwt), mean(&paired), deviation(&paired), mean(seconds)];
        table.row(std::iter::once((*label).into()).chain(numbers.map(Into::into)));
        chart.line(*label, ground.seeds.iter().zip(mfn).map(|(&seed, &value)| [seed as f64, value]).collect());
    }
    let of = |name: MethodName| {
        labels.iter().position(|label| *label == name.as_str()).map_or(f64::NAN, |at| mean(&measured[at].mfn))
    };
    let [lora, ebo, eblora] = [MethodName::LoraFt, MethodName::Ebo, MethodName::Eblora].map(of);
    let verdict = format!("MFN {lora:.1} (LoRA-FT), {ebo:.1} (EBO), {eblora:.1} (EBLoRA)");
    let mut found = finding(Experiment::Ablation, CLAIM, lora < ebo && ebo < eblora, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    Ok(found)
}

/// The table's title, with a warning where it has rows that are equal by construction.
fn title(labels: &[&str]) -> String {
    let both = ["raw-step", "authors-step"].iter().all(|row| labels.contains(row));
    let same = if both { " (raw-step and authors-step are one run by construction: there is one rank)" } else { "" };
    format!("methods, and EBLoRA with one part exchanged{same}")
}

/// The three methods, then EBLoRA with one part exchanged.
fn variants<S: Subject + Sync>(ground: &Ground<'_, S>) -> Result<Vec<MethodConfig>, Error>
where
    S::Samples: Sync,
{
    let own = ground.method(MethodName::Eblora);
    let base = MethodConfig { rank: Some(own.rank()), ..own }; // another name would bring a rank of its own
    let core = eblora_core::method::EbloraConfig::default();
    let plain = |name: MethodName| MethodConfig { label: Some(name.as_str().to_owned()), ..ground.method(name) };
    let mut all: Vec<_> = [MethodName::LoraFt, MethodName::Ebo, MethodName::Eblora].map(plain).into();
    let first = base.s_first.unwrap_or(core.depth.min());
    let last = base.s_last.unwrap_or(core.depth.max());
    let step = base.step.unwrap_or(core.step);
    let rate = raw_rate(ground, step)?;
    let authors = rate / (4096.0 / base.rank() as f64).sqrt();
    let mut add = |label: &str, change: &dyn Fn(&mut MethodConfig)| {
        if ground.quick && !QUICK.contains(&label) {
            return;
        }
        let mut method = MethodConfig { label: Some(label.to_owned()), ..base.clone() };
        change(&mut method);
        all.push(method);
    };
    let flat = (first + last) / 2.0;
    add("no-depth-schedule", &|m| (m.s_first, m.s_last) = (Some(flat), Some(flat)));
    add("random-init", &|m| m.init = Some(Initial::Random));
    add("canonical-tangent", &|m| m.tangent = Some(Tangent::Canonical));
    add("polar-retraction", &|m| m.retraction = Some(WayBack::Polar));
    add("qr-retraction", &|m| m.retraction = Some(WayBack::Qr));
    add("raw-step", &|m| (m.convention, m.step) = (Some(Convention::Raw), Some(rate)));
    add("authors-step", &|m| (m.convention, m.step) = (Some(Convention::Authors), Some(authors)));
    add("trained-gradient-too", &|m| m.name = MethodName::EbloraPlus);
    add("no-drift-projection", &|m| m.drift_period = Some(0));
    Ok(all)
}

/// The per-entry rate that is the same relative step in a layer of the mean size.
fn raw_rate<S: Subject + Sync>(ground: &Ground<'_, S>, step: f64) -> Result<f64, Error>
where
    S::Samples: Sync,
{
    let sides: Vec<f64> = ground.sites()?.iter().flat_map(|site| [site.out as f64, site.inp as f64]).collect();
    Ok(step / mean(&sides).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_one_run_are_named() {
        assert_eq!(title(&["eblora", "raw-step"]), "methods, and EBLoRA with one part exchanged");
        assert!(title(&["raw-step", "eblora", "authors-step"]).contains("raw-step and authors-step are one run"));
    }
}
