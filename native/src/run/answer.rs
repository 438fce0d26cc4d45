//! What a model answers, the likeliest first.

use serde::Serialize;

/// An answer of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The label, or what was said.
    pub answer: String,
    /// How sure the model is, of 1; `null` for what was decoded freely.
    pub confidence: Option<f64>,
}

/// The softmax of scores, by name, the largest first.
pub fn ranked(scores: &[f64], names: &[String]) -> Vec<Answer> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut answers: Vec<_> = (names.iter().zip(weights))
        .map(|(name, weight)| Answer { answer: name.clone(), confidence: Some(weight / sum) })
        .collect();
    answers.sort_by(|a, b| b.confidence.partial_cmp(&a.confidence).unwrap_or(std::cmp::Ordering::Equal));
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_ranked_by_the_softmax_of_their_scores() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let answers = ranked(&[-1000.0, -1000.0 + 3.0_f64.ln(), -2000.0], &names);
        assert_eq!(answers.iter().map(|a| a.answer.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!((answers[0].confidence.unwrap() - 0.75).abs() < 1e-12);
        assert_eq!(answers[2].confidence, Some(0.0));
    }
}
