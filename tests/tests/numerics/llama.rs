//! Tiny Llamas against stock ones: logits, losses, every weight's and every adapter's gradient, cached decoding.

use crate::fixtures::{Bound, Check, Fixture, path, round_to_bf16, row_major};
use eblora::model::llama::LlamaFolder;
use eblora_core::Real;
use eblora_core::adapter::{AdapterGrads, Adapters, HostFactors};
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::model::llama::{Choices, Llama, LlamaWeights, LlamaWorkspace, Ranking, TokenSet, Window};
use eblora_core::model::{Model, ModelError, Right, Wanted};
use eblora_core::train::{GradientKind, GradientPass};
use pollster::block_on;

const MODELS: [&str; 3] = ["llama_tied", "llama_untied", "llama3"];
const SITES: usize = 14;

/// A model with the fixture's batch loaded.
struct Case<T: Real> {
    fixture: Fixture,
    cpu: Cpu<T>,
    model: Llama<Cpu<T>>,
    work: LlamaWorkspace<Cpu<T>>,
    samples: TokenSet,
}

fn samples(fixture: &Fixture) -> TokenSet {
    let (tokens, answer) = (fixture.labels("tokens"), fixture.labels("answer"));
    let (lengths, mut set) = (fixture.labels("lengths"), TokenSet::new());
    let longest = tokens.len() / lengths.len();
    for (row, &length) in lengths.iter().enumerate() {
        let own = row * longest..row * longest + length as usize;
        let mask: Vec<bool> = answer[own.clone()].iter().map(|&a| a == 1).collect();
        set.push(&tokens[own], &mask).expect("an answer");
    }
    set
}

impl<T: Real> Case<T> {
    fn new(name: &str) -> Self {
        Self::with(name, |weights| weights)
    }

    fn with(name: &str, change: impl Fn(LlamaWeights) -> LlamaWeights) -> Self {
        let (fixture, cpu) = (Fixture::read(name), Cpu::new());
        let folder = LlamaFolder::read(&path(name)).expect("a model");
        let samples = samples(&fixture);
        let Window { tokens, answer } = samples.window();
        // Room for more than the batch: what lies behind it must not matter.
        let window = Window { tokens: tokens + 2, answer: answer + 1 };
        let model = Llama::new(&cpu, &folder.config, window, change(folder.weights)).expect("a model");
        let mut work = model.workspace(&cpu, lengths(&samples).len() + 1).expect("memory");
        model.load(&cpu, &mut work, &samples, &lengths(&samples)).expect("a batch");
        Self { fixture, cpu, model, work, samples }
    }

    fn name(&self, site: usize) -> String {
        self.model.sites()[site].name.clone()
    }

    fn factors(&self, site: usize) -> HostFactors<T> {
        let of = |part: &str| format!("adapter.{}.{part}", self.name(site));
        let (u, v) = (self.fixture.matrix(&of("u")), self.fixture.matrix(&of("v")));
        HostFactors { site, u, v, s: T::of(self.fixture.scalar(&of("s"))) }
    }

    fn adapters(&mut self, factors: &[HostFactors<T>]) -> Adapters<Cpu<T>> {
        let adapters = Adapters::upload(&self.cpu, factors, SITES, None).expect("memory");
        self.model.attach(&self.cpu, &mut self.work, &adapters).expect("memory");
        adapters
    }

    fn all_adapters(&mut self) -> Adapters<Cpu<T>> {
        let factors: Vec<_> = (0..SITES).map(|site| self.factors(site)).collect();
        self.adapters(&factors)
    }

    /// Logits of the answer rows, and the loss.
    fn forward(&mut self, adapters: Option<&Adapters<Cpu<T>>>) -> (Vec<T>, T) {
        let mut loss = self.cpu.zeros([1, 1, 1]).expect("memory");
        self.model.forward(&self.cpu, &mut self.work, adapters);
        self.model.loss(&self.cpu, &mut self.work, &mut loss, 0);
        let rows = self.model.labelled(&self.work) * self.model.classes();
        (self.model.logits(&self.work).values()[..rows].to_vec(), loss.values()[0])
    }

    /// Gradients of the adapters after a forward pass with them. Where there was no place for a number, NaN stands.
    fn backward(&mut self, adapters: &Adapters<Cpu<T>>) -> AdapterGrads<Cpu<T>> {
        let mut grads = adapters.grads(&self.cpu).expect("memory");
        for stack in &mut grads.stacks {
            for tensor in [Some(&mut stack.u), Some(&mut stack.v), stack.s.as_mut()].into_iter().flatten() {
                self.cpu.fill(tensor, f64::NAN);
            }
        }
        self.model.backward(&self.cpu, &mut self.work, &mut Wanted::Adapters(adapters, &mut grads));
        grads
    }

    /// The bound of a tensor that a whole pass makes: about 300 rounded operations deep in f32.
    fn bound(&self) -> Bound {
        Bound::relative(if T::NAME == "f64" { 1e-10 } else { 300.0 * 1.2e-7 })
    }

    /// ds = ⟨U, dU⟩/s cancels to any smallness, but its error is that of its summands: ‖U‖·‖dU‖/s, by Cauchy and Schwarz.
    fn size_of_summands(&self, site: usize) -> f64 {
        let norm = |prefix: &str, part: &str| {
            let values = &self.fixture.get(&format!("{prefix}.{}.{part}", self.name(site))).values;
            values.iter().map(|x| x * x).sum::<f64>().sqrt()
        };
        norm("adapter", "u") * norm("adapter_gradient", "du") / norm("adapter", "s")
    }

    fn check_output(&mut self, check: &mut Check, what: &str, adapters: Option<&Adapters<Cpu<T>>>) {
        let (logits, loss) = self.forward(adapters);
        let of = |part| if what.is_empty() { String::from(part) } else { format!("{what}.{part}") };
        check.tensor(&of("logits"), &logits, &self.fixture.get(&of("logits")).values, self.bound());
        check.tensor(&of("loss"), &[loss], &self.fixture.get(&of("loss")).values, self.bound());
    }

    fn check_gradients(&mut self, check: &mut Check, adapters: &Adapters<Cpu<T>>, sites: &[usize]) {
        let grads = self.backward(adapters);
        for &site in sites {
            let slot = adapters.slot(site).expect("an adapter");
            let stack = &grads.stacks[slot.stack_index];
            for (part, tensor) in [("du", &stack.u), ("dv", &stack.v), ("ds", stack.s.as_ref().expect("s is trained"))]
            {
                let each = tensor.values().len() / slot.stack.sites.len();
                let values = &tensor.values()[slot.item * each..][..each];
                let name = format!("adapter_gradient.{}.{part}", self.name(site));
                let mut bound = self.bound();
                if part == "ds" && T::NAME == "f32" {
                    bound.floor = self.size_of_summands(site);
                }
                check.tensor(&name, values, &self.fixture.get(&name).values, bound);
            }
        }
    }
}

fn lengths(samples: &TokenSet) -> Vec<usize> {
    (0..eblora_core::model::Samples::len(samples)).collect()
}

fn whole_model<T: Real>() {
    for name in MODELS {
        let (mut case, mut check) = (Case::<T>::new(name), Check::new::<T>(name));
        assert_eq!(case.model.sites().len(), SITES);
        case.check_output(&mut check, "", None);
        let mut pass = GradientPass::new(&case.cpu, case.model.sites(), GradientKind::Exact, case.model.rows(4), 5)
            .expect("memory");
        case.model.backward(&case.cpu, &mut case.work, &mut Wanted::Weights(&mut pass));
        for (site, gradient) in block_on(pass.finish(&case.cpu)).expect("gradients").into_iter().enumerate() {
            let Gradient::Exact(g) = gradient else { panic!("a sketch was not asked for") };
            let name = format!("weight_gradient.{}", case.name(site));
            check.tensor(&name, &row_major(g.as_ref()), &case.fixture.get(&name).values, case.bound());
        }
        let adapters = case.all_adapters();
        case.check_output(&mut check, "adapted", Some(&adapters));
        case.check_gradients(&mut check, &adapters, &(0..SITES).collect::<Vec<_>>());
        // Merged, the adapters say the same.
        case.model.merge(&case.cpu, &adapters).expect("memory");
        case.check_output(&mut check, "adapted", None);
    }
}

#[test]
fn llamas_equal_their_references_in_f64() {
    whole_model::<f64>();
}

#[test]
fn llamas_equal_their_references_in_f32() {
    whole_model::<f32>();
}

/// A model that has the other sites' adapters merged into its weights has the same gradients at those that remain; only
/// what these need is computed.
#[test]
fn adapters_on_some_sites_have_the_gradients_of_the_full_run() {
    let subsets = [vec![13], vec![12], vec![11, 12], vec![10], vec![7, 9], vec![8], vec![0], vec![5, 13], vec![6]];
    for kept in &subsets {
        let (mut case, mut check) = (Case::<f64>::new("llama_untied"), Check::new::<f64>("some sites"));
        let (merged, trained): (Vec<_>, Vec<_>) =
            (0..SITES).map(|site| case.factors(site)).partition(|f| !kept.contains(&f.site));
        let merged = case.adapters(&merged);
        case.model.merge(&case.cpu, &merged).expect("memory");
        let adapters = case.adapters(&trained);
        let (_, loss) = case.forward(Some(&adapters));
        check.tensor("loss", &[loss], &case.fixture.get("adapted.loss").values, case.bound());
        case.check_gradients(&mut check, &adapters, kept);
    }
}

/// The same weights rounded to bf16, once as stored and once in full: the same numbers before and after a merge, in the
/// loss and in a gradient that goes through all blocks.
#[test]
fn weights_as_stored_train_like_full_ones() {
    let rounded = |weights: &mut LlamaWeights, stored: bool| {
        round_to_bf16(&mut weights.embedding, stored);
        for block in &mut weights.blocks {
            let attention = [&mut block.query, &mut block.key, &mut block.value, &mut block.output];
            let mlp = [&mut block.gate, &mut block.up, &mut block.down];
            attention.into_iter().chain(mlp).for_each(|linear| round_to_bf16(&mut linear.weight, stored));
        }
    };
    let run = |stored| {
        let mut case = Case::<f64>::with("llama_tied", |mut weights| {
            rounded(&mut weights, stored);
            weights
        });
        let adapters = case.all_adapters();
        case.model.merge(&case.cpu, &adapters).expect("memory");
        case.model.load(&case.cpu, &mut case.work, &case.samples, &[0, 1, 2, 3]).expect("a batch");
        let (_, loss) = case.forward(None);
        let adapters = case.adapters(&[case.factors(0)]);
        let (mut logits, twice) = case.forward(Some(&adapters));
        let grads = case.backward(&adapters);
        logits.extend([loss, twice]);
        logits.extend_from_slice(grads.stacks[0].u.values());
        logits
    };
    let mut check = Check::new::<f64>("as stored");
    check.tensor("all", &run(true), &run(false), Bound::relative(1e-12));
}

/// The blocks' activations computed again: the same bits in the logits, the loss and every gradient. Those of weights come
/// first, and the adapters of some sites last, where the pass ends within a block.
#[test]
fn gradient_checkpointing_changes_no_bit() {
    let run = |on| {
        let mut case = Case::<f32>::new("llama3");
        case.model = case.model.checkpointing(on);
        case.work = case.model.workspace(&case.cpu, 5).expect("memory");
        case.model.load(&case.cpu, &mut case.work, &case.samples, &[0, 1, 2, 3]).expect("a batch");
        let (mut all, _) = case.forward(None);
        let mut pass = GradientPass::new(&case.cpu, case.model.sites(), GradientKind::Exact, case.model.rows(4), 5)
            .expect("memory");
        case.model.backward(&case.cpu, &mut case.work, &mut Wanted::Weights(&mut pass));
        for gradient in block_on(pass.finish(&case.cpu)).expect("gradients") {
            let Gradient::Exact(g) = gradient else { panic!("a sketch was not asked for") };
            all.extend(g.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()));
        }
        for sites in [(0..SITES).collect::<Vec<_>>(), vec![9, 12], vec![3]] {
            let adapters = case.adapters(&sites.iter().map(|&site| case.factors(site)).collect::<Vec<_>>());
            let (logits, loss) = case.forward(Some(&adapters));
            all.extend(logits);
            all.push(loss);
            for stack in case.backward(&adapters).stacks {
                all.extend_from_slice(stack.u.values());
                all.extend_from_slice(stack.v.values());
                all.extend_from_slice(stack.s.expect("s is trained").values());
            }
        }
        all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let kept = run(false);
    assert!(kept.len() > 10_000 && kept.iter().all(|&bits| f32::from_bits(bits).is_finite()));
    assert_eq!(run(true), kept);
}

fn decoding<T: Real>() {
    for name in MODELS {
        let (mut case, mut check) = (Case::<T>::new(name), Check::new::<T>(name));
        let adapters = case.all_adapters();
        let Case { fixture, cpu, model, samples, .. } = &case;
        let longest = samples.tokens(1);
        let full = fixture.get("full_logits");
        let row = |i: usize| full.values[i * 60..(i + 1) * 60].to_vec();
        // In parts of all sizes, and token by token behind them.
        for part in [1, 3, 5, 11] {
            let mut decoder = model.decoder(cpu, part, 20).expect("memory");
            for start in [1, 4, longest.len()] {
                let mut logits = block_on(model.begin(cpu, &mut decoder, None, &longest[..start])).expect("logits");
                for next in start..=longest.len() {
                    check.tensor("step", &logits, &row(next - 1), case.bound());
                    if let Some(&token) = longest.get(next) {
                        logits = block_on(model.extend(cpu, &mut decoder, None, &[token])).expect("logits");
                    }
                }
            }
            for (of, adapters) in [("greedy", None), ("adapted.greedy", Some(&adapters))] {
                let prompt = fixture.labels(&format!("{of}.prompt"));
                let said = fixture.labels(&format!("{of}.said"));
                let ours = |most, stop: &[u32]| (most, stop.to_vec());
                for (most, stop) in [ours(said.len(), &[]), ours(3, &[]), ours(9, &said[4..5])] {
                    let ends = said.iter().position(|t| stop.contains(t)).unwrap_or(said.len()).min(most);
                    let got = model.generate(cpu, &mut decoder, adapters, &prompt, (most, &stop));
                    assert_eq!(block_on(got).expect("tokens"), said[..ends], "{name} {of}");
                }
            }
            let prompt = fixture.labels("greedy.prompt");
            let answers: Vec<_> = [1, 2, 4].map(|n| fixture.labels(&format!("likelihood.{n}.answer"))).to_vec();
            let found = block_on(model.likelihoods(cpu, &mut decoder, None, &prompt, &answers)).expect("numbers");
            for (found, answer) in found.iter().zip(&answers) {
                let want = fixture.get(&format!("likelihood.{}.sum", answer.len()));
                check.tensor("likelihood", &[T::of(found.sum)], &want.values, case.bound());
                assert_eq!((found.tokens, found.mean()), (answer.len(), found.sum / answer.len() as f64));
            }
        }
    }
}

#[test]
fn cached_decoding_equals_the_full_pass_in_f64() {
    decoding::<f64>();
}

#[test]
fn cached_decoding_equals_the_full_pass_in_f32() {
    decoding::<f32>();
}

#[test]
fn answers_are_counted_as_greedy_decoding_or_the_likeliest_choice_gives_them() {
    let mut case = Case::<f64>::new("llama3");
    let (prompt, said) = (case.fixture.labels("greedy.prompt"), case.fixture.labels("greedy.said"));
    let mut set = TokenSet::new();
    set.push_pair(&prompt, &said[..3]).expect("an answer");
    set.push_pair(&prompt, &[said[0], (said[1] + 1) % 60]).expect("an answer");
    set.push_pair(&prompt[..2], &[59]).expect("an answer");
    let Case { cpu, model, work, fixture, .. } = &mut case;
    // The third is right exactly if 59 is what greedy decoding says.
    let mut decoder = model.decoder(cpu, 8, 16).expect("memory");
    let third = block_on(model.generate(cpu, &mut decoder, None, &prompt[..2], (1, &[]))).expect("a token");
    let right = 1 + usize::from(third == [59]);
    let both = |right| Ok(Right { free: right, masked: right });
    assert_eq!(block_on(model.count_right(cpu, work, None, &set, &[0, 1, 2], &[])), both(right));
    assert_eq!(block_on(model.count_right(cpu, work, None, &set, &[1], &[])), both(0));

    let answers: Vec<_> = [1, 2, 4].map(|n| fixture.labels(&format!("likelihood.{n}.answer"))).to_vec();
    let sums = [1, 2, 4].map(|n| fixture.scalar(&format!("likelihood.{n}.sum")));
    let means = [sums[0], sums[1] / 2.0, sums[2] / 4.0];
    for (ranking, scores) in [(Ranking::Sum, sums), (Ranking::Mean, means)] {
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("three");
        let choices = Choices { answers: answers.clone(), ranking };
        let mut set = TokenSet::with_choices(choices).expect("choices");
        answers.iter().for_each(|answer| set.push_pair(&prompt, answer).expect("a choice"));
        for i in 0..3 {
            let counted = block_on(model.count_right(cpu, work, None, &set, &[i], &[]));
            assert_eq!(counted, both(usize::from(i == best)), "{ranking:?}: {scores:?}");
        }
    }
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let mut case = Case::<f32>::new("llama_tied");
    let Case { cpu, model, work, samples, .. } = &mut case;
    let mut refused = |tokens: &[u32], answer: usize| {
        let mut set = TokenSet::new();
        set.push_pair(&tokens[..tokens.len() - answer], &tokens[tokens.len() - answer..]).expect("an answer");
        model.load(cpu, work, &set, &[0]).expect_err("too large").to_string()
    };
    assert_eq!(refused(&[1; 14], 1), "sequence 0: 14 tokens, where the window has room for 13");
    assert_eq!(refused(&[1; 9], 5), "sequence 0: 5 tokens of the answer, where the window has room for 4");
    assert_eq!(refused(&[1, 60, 2], 1), "sequence 0: token 1 is 60, but the model knows 0 to 59");
    let five = model.load(cpu, work, samples, &[0, 1, 2, 3, 0, 1]);
    assert_eq!(five, Err(ModelError::Batch { got: 6, capacity: 5 }));
    assert!(model.load(cpu, work, samples, &[]).is_err(), "nothing to compute");
    assert!(model.decoder(cpu, 1, 65).is_err(), "64 positions");
    assert!(model.decoder(cpu, 5, 4).is_err(), "a part larger than the whole");
    let mut decoder = model.decoder(cpu, 2, 4).expect("memory");
    for tokens in [&[][..], &[1; 5], &[60]] {
        assert!(matches!(block_on(model.begin(cpu, &mut decoder, None, tokens)), Err(ModelError::Sequence { .. })));
    }
    let full = block_on(model.generate(cpu, &mut decoder, None, &[1, 2, 3], (9, &[])));
    assert_eq!(full.expect("tokens").len(), 2, "the last token that fits, and what follows it");
}
