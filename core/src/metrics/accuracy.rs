//! The accuracy matrix `a[i][j]` (score on task j after training task i) and what is read off it.
//!
//! With T tasks, counted from 1:
//!
//! | name | formula | reads |
//! |---|---|---|
//! | MFT | `mean_j a[j][j]` | each task just after it was learnt |
//! | MFN | `mean_j a[T][j]` | all tasks at the end |
//! | MAA | `mean_i mean_{j≤i} a[i][j]` | the tasks learnt so far, averaged over the stages |
//! | BWT | `mean_{j<T} (a[T][j] − a[j][j])` | forgetting (negative) |
//! | FWT, MTIL form | `mean_{j≥2} mean_{i<j} a[i][j]` | tasks not yet learnt, each task with equal weight |
//! | FWT, cells form | mean of `a[i][j]` over `i < j` | the same cells, each with equal weight |
//! | NAI | `mean_j (merged_j − zero_j)/(individual_j − zero_j)` | the share of the individual gain that one model keeps |
//!
//! Papers mean either form of FWT by that name, so both are offered and neither is called plain "FWT".
//!
//! NAI is a share of a gain, so it takes one: a task whose individual model is less than [`HEADROOM`] points above the
//! zero-shot one has none that could be kept. Of no gain there is no share, by a gain of a sample or two the quotient
//! is as large as one likes, and by a loss its sign turns round. Such a task has no value, and the mean is over the
//! others.

use alloc::vec;
use alloc::vec::Vec;

use super::{MetricError, finite, mean};

/// Scores of T tasks, in per cent, one row per task learnt; each row holds the score on *all* T tasks. Where tasks came in
/// later ([`with_columns`](AccuracyMatrix::with_columns)), the scores on them that nobody measured are absent.
///
/// While fewer than T rows are there, the metrics are those of the sequence that ended with the last row. A metric that
/// would have to read an absent score is `None`.
///
/// ```
/// use eblora_core::metrics::AccuracyMatrix;
/// let mut a = AccuracyMatrix::new(2);
/// a.set_zero_shot(&[30.0, 20.0])?;
/// a.push(&[90.0, 25.0])?; // after task 1
/// a.push(&[84.0, 80.0])?; // after task 2
/// assert_eq!(a.mft(), Some(85.0));
/// assert_eq!(a.mfn(), Some(82.0));
/// assert_eq!(a.maa(), Some(86.0));
/// assert_eq!(a.bwt(), Some(-6.0));
/// assert_eq!(a.fwt_mtil(), Some(25.0));
/// assert_eq!(a.fwt_cells(), Some(25.0));
/// assert_eq!((a.tasks(), a.rows().len(), a.get(1, 0)), (2, 2, Some(84.0)));
/// assert_eq!((a.zero_shot(), a.individual()), (Some(&[Some(30.0), Some(20.0)][..]), None));
/// # Ok::<(), eblora_core::metrics::MetricError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AccuracyMatrix {
    tasks: usize,
    rows: Vec<Vec<Option<f64>>>,
    zero_shot: Option<Vec<Option<f64>>>,
    individual: Option<Vec<f64>>,
}

/// Points by which an individual model must be above the zero-shot one, so that a task counts in the NAI.
pub const HEADROOM: f64 = 1.0;

/// The normalised accuracy improvement of one model over all tasks (a ratio: 1 is the individual models' level).
#[derive(Clone, Debug, PartialEq)]
pub struct Nai {
    /// `(merged − zero-shot)/(individual − zero-shot)` of each task; `None` where that gain is below [`HEADROOM`].
    pub per_task: Vec<Option<f64>>,
    /// The mean of those that there are.
    pub mean: f64,
}

impl Nai {
    /// How many tasks the mean is of.
    pub fn counted(&self) -> usize {
        self.per_task.iter().flatten().count()
    }
}

impl AccuracyMatrix {
    /// An empty matrix of `tasks` tasks.
    pub fn new(tasks: usize) -> Self {
        Self { tasks, rows: Vec::with_capacity(tasks), zero_shot: None, individual: None }
    }

    fn row_of(&self, what: &'static str, row: &[f64]) -> Result<Vec<f64>, MetricError> {
        if row.len() != self.tasks {
            return Err(MetricError::Length { what, expected: self.tasks, got: row.len() });
        }
        finite(what, row)?;
        Ok(row.to_vec())
    }

    /// Appends the scores on all tasks (per cent) after one more task was learnt.
    ///
    /// # Errors
    /// [`MetricError::Complete`] when all rows are there; `Length` or `NotFinite` for a bad row.
    pub fn push(&mut self, row: &[f64]) -> Result<(), MetricError> {
        if self.rows.len() == self.tasks {
            return Err(MetricError::Complete { tasks: self.tasks });
        }
        let row = self.row_of("accuracy row", row)?;
        self.rows.push(row.into_iter().map(Some).collect());
        Ok(())
    }

    /// The same for a row in which scores may be absent.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_known(&mut self, row: &[Option<f64>]) -> Result<(), MetricError> {
        let known: Vec<f64> = row.iter().map(|score| score.unwrap_or(0.0)).collect();
        self.push(&known)?;
        if let Some(last) = self.rows.last_mut() {
            last.copy_from_slice(row);
        }
        Ok(())
    }

    /// Sets the scores of the model before any training.
    ///
    /// # Errors
    /// `Length` or `NotFinite` for a bad row.
    pub fn set_zero_shot(&mut self, row: &[f64]) -> Result<(), MetricError> {
        self.zero_shot = Some(self.row_of("zero-shot row", row)?.into_iter().map(Some).collect());
        Ok(())
    }

    /// The same for a row in which scores may be absent.
    ///
    /// # Errors
    /// As [`set_zero_shot`](Self::set_zero_shot).
    pub fn set_known_zero_shot(&mut self, row: &[Option<f64>]) -> Result<(), MetricError> {
        let known: Vec<f64> = row.iter().map(|score| score.unwrap_or(0.0)).collect();
        self.set_zero_shot(&known)?;
        self.zero_shot = Some(row.to_vec());
        Ok(())
    }

    /// The tasks on which the model before any training was not measured.
    pub fn missing_zero_shot(&self) -> Vec<usize> {
        let known = |task: usize| self.zero_shot.as_ref().is_some_and(|row| row[task].is_some());
        (0..self.tasks).filter(|&task| !known(task)).collect()
    }

    /// Sets the scores on [`missing_zero_shot`](Self::missing_zero_shot).
    ///
    /// # Errors
    /// When it is not one for each, or not finite.
    pub fn complete_zero_shot(&mut self, scores: &[f64]) -> Result<(), MetricError> {
        const WHAT: &str = "zero-shot row";
        let missing = self.missing_zero_shot();
        if missing.len() != scores.len() {
            return Err(MetricError::Length { what: WHAT, expected: missing.len(), got: scores.len() });
        }
        finite(WHAT, scores)?;
        let row = self.zero_shot.get_or_insert_with(|| vec![None; self.tasks]);
        missing.iter().zip(scores).for_each(|(&task, &score)| row[task] = Some(score));
        Ok(())
    }

    /// The matrix for other tasks: column j is column `columns[j]` of this one, or of a task that was not measured yet.
    ///
    /// ```
    /// use eblora_core::metrics::AccuracyMatrix;
    /// let mut one = AccuracyMatrix::new(1);
    /// one.push(&[90.0])?;
    /// let mut two = one.with_columns(&[Some(0), None]);
    /// two.push(&[80.0, 70.0])?;
    /// assert_eq!((two.get(0, 0), two.get(0, 1), two.get(1, 1)), (Some(90.0), None, Some(70.0)));
    /// assert_eq!((two.bwt(), two.fwt_cells()), (Some(-10.0), None));
    /// # Ok::<(), eblora_core::metrics::MetricError>(())
    /// ```
    pub fn with_columns(&self, columns: &[Option<usize>]) -> Self {
        let row = |row: &Vec<Option<f64>>| -> Vec<Option<f64>> {
            columns.iter().map(|column| row.get((*column)?).copied().flatten()).collect()
        };
        let individual = self.individual.as_ref();
        Self {
            tasks: columns.len(),
            rows: self.rows.iter().map(row).collect(),
            zero_shot: self.zero_shot.as_ref().map(row),
            individual: individual.and_then(|all| columns.iter().map(|&c| all.get(c?).copied()).collect()),
        }
    }

    /// Sets the scores of one model per task, each trained on its task alone.
    ///
    /// # Errors
    /// `Length` or `NotFinite` for a bad row.
    pub fn set_individual(&mut self, row: &[f64]) -> Result<(), MetricError> {
        self.individual = Some(self.row_of("individual row", row)?);
        Ok(())
    }

    /// The number of tasks T.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The rows so far; row i holds the scores after task i (from 0).
    pub fn rows(&self) -> &[Vec<Option<f64>>] {
        &self.rows
    }

    /// All scores, where none is absent.
    pub fn complete_rows(&self) -> Option<Vec<Vec<f64>>> {
        self.rows.iter().map(|row| row.iter().copied().collect()).collect()
    }

    /// The score on task `j` after task `i` (both from 0), if it is there.
    pub fn get(&self, i: usize, j: usize) -> Option<f64> {
        self.rows.get(i)?.get(j).copied().flatten()
    }

    /// The zero-shot row, if set.
    pub fn zero_shot(&self) -> Option<&[Option<f64>]> {
        self.zero_shot.as_deref()
    }

    /// The individual row, if set.
    pub fn individual(&self) -> Option<&[f64]> {
        self.individual.as_deref()
    }

    /// MFT, the mean score just after learning: `mean_j a[j][j]`. `None` before the first row.
    pub fn mft(&self) -> Option<f64> {
        mean_of_known(self.rows.iter().enumerate().map(|(j, row)| row[j]))
    }

    /// MFN, the mean score at the end: `mean_{j≤t} a[t][j]`. `None` before the first row.
    pub fn mfn(&self) -> Option<f64> {
        let last = self.rows.last()?;
        mean_of_known(last[..self.rows.len()].iter().copied())
    }

    /// MAA, the mean over the stages of the mean over the tasks learnt so far. `None` before the first row.
    pub fn maa(&self) -> Option<f64> {
        mean_of_known(self.rows.iter().enumerate().map(|(i, row)| mean_of_known(row[..=i].iter().copied())))
    }

    /// BWT, backward transfer: `mean_{j<t} (a[t][j] − a[j][j])`; negative is forgetting. `None` with fewer than 2 rows.
    pub fn bwt(&self) -> Option<f64> {
        let last = self.rows.last()?;
        mean_of_known((0..self.rows.len() - 1).map(|j| Some(last[j]? - self.rows[j][j]?)))
    }

    /// Forward transfer as MTIL has it: for each task from the second on, the mean score before it was learnt; then
    /// the mean over those tasks. `None` with fewer than 2 rows.
    pub fn fwt_mtil(&self) -> Option<f64> {
        mean_of_known((1..self.rows.len()).map(|j| mean_of_known(self.rows[..j].iter().map(|row| row[j]))))
    }

    /// Forward transfer as the plain mean of the strict upper triangle: later columns weigh more than in
    /// [`fwt_mtil`](Self::fwt_mtil). `None` with fewer than 2 rows.
    pub fn fwt_cells(&self) -> Option<f64> {
        let t = self.rows.len();
        mean_of_known(self.rows.iter().enumerate().flat_map(|(i, row)| row[i + 1..t].iter().copied()))
    }

    /// NAI of the model as it is after the last row.
    ///
    /// # Errors
    /// [`MetricError::MissingRow`] without an accuracy, zero-shot or individual row; `NoHeadroom` where the latter two
    /// differ by less than [`HEADROOM`] points in every task.
    pub fn nai(&self) -> Result<Nai, MetricError> {
        let last = self.rows.last().and_then(|row| row.iter().copied().collect::<Option<Vec<_>>>());
        self.nai_of(&last.ok_or(MetricError::MissingRow { row: "accuracy" })?)
    }

    /// NAI of a model with the scores `merged` (one per task, per cent), such as a merge of the individual models:
    /// `(merged − zero-shot)/(individual − zero-shot)`, of the tasks in which that gain is [`HEADROOM`] points or more.
    ///
    /// ```
    /// # use eblora_core::metrics::AccuracyMatrix;
    /// let mut a = AccuracyMatrix::new(3);
    /// a.set_zero_shot(&[30.0, 20.0, 50.0])?;
    /// a.set_individual(&[90.0, 60.0, 49.0])?; // the third learnt nothing
    /// let nai = a.nai_of(&[60.0, 50.0, 50.0])?;
    /// assert_eq!((nai.counted(), nai.mean), (2, 0.625));
    /// assert_eq!(nai.per_task, [Some(0.5), Some(0.75), None]);
    /// a.push(&[90.0, 60.0, 50.0])?;
    /// assert_eq!(a.nai()?.mean, 1.0); // of the last row
    /// # Ok::<(), eblora_core::metrics::MetricError>(())
    /// ```
    ///
    /// # Errors
    /// As [`nai`](Self::nai), and `Length` or `NotFinite` for a bad row.
    pub fn nai_of(&self, merged: &[f64]) -> Result<Nai, MetricError> {
        let merged = self.row_of("merged row", merged)?;
        let zero = self.zero_shot().and_then(|row| row.iter().copied().collect::<Option<Vec<_>>>());
        let zero = zero.ok_or(MetricError::MissingRow { row: "zero-shot" })?;
        let individual = self.individual().ok_or(MetricError::MissingRow { row: "individual" })?;
        let mut per_task = Vec::with_capacity(self.tasks);
        for task in 0..self.tasks {
            let gain = individual[task] - zero[task];
            per_task.push((gain >= HEADROOM).then(|| (merged[task] - zero[task]) / gain));
        }
        let mean = mean(per_task.iter().copied().flatten()).ok_or(MetricError::NoHeadroom { task: 0 })?;
        Ok(Nai { per_task, mean })
    }
}

/// The mean, if there is any value and none is absent.
fn mean_of_known(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    mean(values.collect::<Option<Vec<f64>>>()?.into_iter())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: &[&[f64]]) -> AccuracyMatrix {
        let mut a = AccuracyMatrix::new(rows[0].len());
        for row in rows {
            a.push(row).unwrap();
        }
        a
    }

    #[test]
    fn three_tasks_by_hand() {
        let a = matrix(&[&[90.0, 10.0, 20.0], &[80.0, 70.0, 26.0], &[75.0, 64.0, 60.0]]);
        let close = |x: Option<f64>, y: f64| assert!((x.unwrap() - y).abs() < 1e-12, "{x:?} {y}");
        close(a.mft(), 220.0 / 3.0);
        close(a.mfn(), 199.0 / 3.0);
        close(a.maa(), (90.0 + 75.0 + 199.0 / 3.0) / 3.0);
        close(a.bwt(), (-15.0 - 6.0) / 2.0);
        close(a.fwt_mtil(), (10.0 + 23.0) / 2.0);
        close(a.fwt_cells(), 56.0 / 3.0); // the two forms differ
        assert_eq!(a.get(1, 2), Some(26.0));
        assert_eq!(a.get(3, 0), None);
    }

    #[test]
    fn one_task_has_no_transfer_and_none_has_nothing() {
        let a = matrix(&[&[50.0]]);
        assert_eq!((a.mft(), a.mfn(), a.maa()), (Some(50.0), Some(50.0), Some(50.0)));
        assert_eq!((a.bwt(), a.fwt_mtil(), a.fwt_cells()), (None, None, None));
        let empty = AccuracyMatrix::new(3);
        assert_eq!((empty.mft(), empty.mfn(), empty.maa(), empty.bwt()), (None, None, None, None));
        assert_eq!((empty.fwt_mtil(), empty.fwt_cells()), (None, None));
        assert_eq!(empty.nai(), Err(MetricError::MissingRow { row: "accuracy" }));
    }

    #[test]
    fn a_prefix_counts_as_a_sequence_of_its_own() {
        let part = matrix(&[&[90.0, 10.0, 20.0], &[80.0, 70.0, 26.0]]);
        let whole = matrix(&[&[90.0, 10.0], &[80.0, 70.0]]);
        let all = |a: &AccuracyMatrix| [a.mft(), a.mfn(), a.maa(), a.bwt(), a.fwt_mtil(), a.fwt_cells()];
        assert_eq!(all(&part), all(&whole));
    }

    #[test]
    fn bad_rows_are_refused_and_leave_no_trace() {
        let mut a = AccuracyMatrix::new(2);
        let length = MetricError::Length { what: "accuracy row", expected: 2, got: 1 };
        assert_eq!(a.push(&[1.0]), Err(length));
        assert_eq!(a.push(&[1.0, f64::NAN]), Err(MetricError::NotFinite { what: "accuracy row", index: 1 }));
        assert!(a.rows().is_empty());
        a.push(&[1.0, 2.0]).unwrap();
        a.push(&[1.0, 2.0]).unwrap();
        assert_eq!(a.push(&[1.0, 2.0]), Err(MetricError::Complete { tasks: 2 }));
        assert_eq!(a.nai(), Err(MetricError::MissingRow { row: "zero-shot" }));
        a.set_zero_shot(&[0.0, 2.0]).unwrap();
        assert_eq!(a.nai(), Err(MetricError::MissingRow { row: "individual" }));
        a.set_individual(&[1.0, 2.0]).unwrap();
        assert_eq!(a.nai().unwrap(), Nai { per_task: vec![Some(1.0), None], mean: 1.0 });
        a.set_individual(&[0.0, 2.0]).unwrap();
        assert_eq!(a.nai(), Err(MetricError::NoHeadroom { task: 0 }));
    }

    #[test]
    fn nai_is_of_the_tasks_that_could_be_learnt() {
        let mut a = AccuracyMatrix::new(5);
        a.set_zero_shot(&[10.0, 50.0, 50.0, 50.0, 20.0]).unwrap();
        // Learnt; nothing; a loss; less than a point; a whole point.
        a.set_individual(&[90.0, 50.0, 40.0, 50.5, 21.0]).unwrap();
        let nai = a.nai_of(&[50.0, 60.0, 45.0, 70.0, 20.5]).unwrap();
        assert_eq!(nai.per_task, [Some(0.5), None, None, None, Some(0.5)]);
        assert_eq!((nai.mean, nai.counted()), (0.5, 2));
    }

    proptest! {
        #[test]
        fn a_constant_matrix_has_that_mean_and_no_transfer(t in 2usize..7, x in 0.0f64..100.0) {
            let row = alloc::vec![x; t];
            let rows: Vec<&[f64]> = (0..t).map(|_| row.as_slice()).collect();
            let a = matrix(&rows);
            for m in [a.mft(), a.mfn(), a.maa(), a.fwt_mtil(), a.fwt_cells()] {
                prop_assert!((m.unwrap() - x).abs() < 1e-10);
            }
            prop_assert_eq!(a.bwt(), Some(0.0));
        }

        #[test]
        fn mfn_is_mft_plus_the_share_of_bwt(cells in proptest::collection::vec(0.0f64..100.0, 16)) {
            let rows: Vec<&[f64]> = cells.chunks(4).collect();
            let a = matrix(&rows);
            // Σ_j a[T][j] = Σ_j a[j][j] + (T − 1)·BWT
            let right = a.mft().unwrap() + a.bwt().unwrap() * 3.0 / 4.0;
            prop_assert!((a.mfn().unwrap() - right).abs() < 1e-10);
        }

        #[test]
        fn nai_is_one_for_the_individual_models(zero in 0.0f64..40.0, gain in 2.0f64..50.0) {
            let mut a = AccuracyMatrix::new(2);
            a.set_zero_shot(&[zero, zero + 1.0]).unwrap();
            a.set_individual(&[zero + gain, zero + 1.0 + gain]).unwrap();
            let nai = a.nai_of(a.individual().unwrap()).unwrap();
            prop_assert!((nai.mean - 1.0).abs() < 1e-12);
            prop_assert_eq!(a.nai_of(&[zero, zero + 1.0]).unwrap().mean, 0.0);
        }
    }
}
