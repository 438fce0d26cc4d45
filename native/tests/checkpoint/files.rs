//! The files of a store: what is written comes back to the bit, and what was damaged is found, named and passed over.

use std::fs;
use std::path::{Path, PathBuf};

use eblora::checkpoint::{CheckpointError, Sittings, Snapshot, Store};
use eblora::core::adapter::{HostAdapters, HostFactors};
use eblora::core::faer::Mat;
use eblora::core::method::{After, Value, Values};
use eblora::core::random::Random;
use eblora::core::train::{Fact, LearntTask, MemoryPoint, RunRecord, RunState, SpectrumPoint, TaskState};
use tempfile::TempDir;

/// A state of every kind of data, with numbers that are easily lost: −0, subnormals, long fractions.
fn state(step: usize) -> RunState<f32> {
    let mut rng = Random::new(step as u64, "state");
    let mut adapters = |fixed| HostAdapters {
        factors: [1, 4]
            .map(|site| HostFactors { site, u: rng.normal_matrix(3, 2), v: rng.normal_matrix(5, 2), s: 0.1 })
            .into(),
        fixed,
    };
    let mut record = RunRecord::new("method", 2);
    record.accuracy.set_zero_shot(&[10.0, 100.0 / 3.0]).unwrap();
    record.accuracy.push(&[200.0 / 7.0, 5e-324]).unwrap();
    record.masked.set_zero_shot(&[10.0, 200.0 / 3.0]).unwrap();
    record.masked.push(&[300.0 / 7.0, 0.1 + 0.2]).unwrap();
    record.losses.push(vec![0.1 + 0.2, f64::MIN_POSITIVE, 1e300]);
    record.spectra.push(SpectrumPoint { task: 0, step: 3, site: 4, sigma: vec![0.1, 1e-9] });
    record.memory.push(MemoryPoint { task: 0, site: 4, k: 2, dim: 5, stored: 10 });
    (record.orthonormality, record.overlap, record.trainable_parameters) = (1.0 / 3.0, 2e-7, 34);
    record.warnings.push("rank 8 → 7, \"quoted\"\n".to_owned());
    let tensor = |values: Vec<f32>| Value::Tensor { shape: [1, 1, values.len()], values };
    let parts = Values::from([
        ("m".to_owned(), tensor(vec![-0.0, f32::MIN_POSITIVE / 8.0, 0.1, f32::MAX])),
        ("steps".to_owned(), Value::Count(u64::MAX)),
    ]);
    let remembered = Values::from([
        ("memory0.direct".to_owned(), Value::Tensor { shape: [1, 5, 0], values: vec![] }),
        ("memory1.complement".to_owned(), Value::matrix(Mat::<f32>::identity(5, 2).as_ref())),
        ("memory1.energies".to_owned(), Value::Reals(vec![0.1 + 0.2, 1e-300])),
    ]);
    RunState {
        facts: vec![Fact::new("seed", 3), Fact::new("rank", 2)],
        record,
        learnt: vec![LearntTask { adapters: adapters(Some(2.0 / 3.0)), after: After::Keep }],
        remembered,
        current: Some(TaskState { step, losses: vec![0.7; step], adapters: adapters(None), parts }),
    }
}

fn sittings() -> Sittings {
    Sittings { eblora_version: "0".into(), device: "cpu".into(), seconds: 1.5, peak_memory_bytes: None }
}

/// A folder with checkpoints of the steps 1, 2 and 3, of which two are kept.
fn three() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a/b");
    let mut store = Store::new(&folder);
    for step in 1..=3 {
        store.save(&state(step), &sittings()).unwrap();
    }
    (root, folder)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_in_memory_is_what_a_store_writes_and_scores_that_nobody_measured_stay_absent() {
    let (_root, folder) = three();
    let snapshot = Snapshot::of(&state(3), &sittings(), NEWEST[1].to_owned()).unwrap();
    assert_eq!(fs::read(folder.join(NEWEST[0])).unwrap(), snapshot.header);
    assert_eq!(fs::read(folder.join(NEWEST[1])).unwrap(), snapshot.tensors);
    assert_eq!(snapshot.clone().read(Path::new("x")).unwrap(), (state(3), sittings()));
    let mut torn = snapshot;
    torn.tensors.pop();
    assert!(torn.read(Path::new("x")).unwrap_err().to_string().starts_with("x: "));
    let mut wider = state(3);
    for matrix in [&mut wider.record.accuracy, &mut wider.record.masked] {
        *matrix = matrix.with_columns(&[Some(0), None, Some(1)]);
    }
    let snapshot = Snapshot::of(&wider, &sittings(), "t".to_owned()).unwrap();
    let (read, _) = snapshot.read(Path::new("x")).unwrap();
    assert_eq!((read.record.accuracy.get(0, 1), read), (None, wider));
}

const NEWEST: [&str; 2] = ["00000003.json", "00000003.safetensors"];

#[test]
fn a_state_comes_back_to_the_bit_and_two_are_kept() {
    let (_root, folder) = three();
    assert_eq!(names(&folder), [["00000002.json", "00000002.safetensors"], NEWEST].concat());
    let mut store = Store::new(&folder);
    assert!(store.is_used().unwrap());
    let loaded = store.load().unwrap().unwrap();
    // Debug output tells −0 from 0, which == does not.
    assert_eq!(format!("{:?}", loaded.state), format!("{:?}", state(3)));
    assert_eq!((loaded.sittings, loaded.notes), (sittings(), vec![]));
    // A header is JSON that anyone can read.
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(NEWEST[0])).unwrap()).unwrap();
    assert_eq!((&json["content"]["format"], &json["content"]["version"]), (&"eblora.checkpoint".into(), &1.into()));
    store.clear().unwrap();
    assert!(!folder.exists());
    assert!(!store.is_used().unwrap() && store.load().unwrap().is_none());
}

/// Damages the newest checkpoint and loads: the one before comes back, with a note that names the file.
fn falls_back(file: &str, what: &str, damage: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let (_root, folder) = three();
    let path = folder.join(file);
    match damage(fs::read(&path).unwrap()) {
        Some(bytes) => fs::write(&path, bytes).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    let mut store = Store::new(&folder);
    let loaded = store.load().unwrap_or_else(|e| panic!("{what}: {e}")).unwrap();
    assert_eq!(loaded.state, state(2), "{what}");
    let [note] = &loaded.notes[..] else { panic!("{what}: {:?}", loaded.notes) };
    assert!(note.contains(file) && note.ends_with("the checkpoint before it is used"), "{what}: {note}");
    // The next one takes the place of the damaged one, and the good one stays.
    store.save(&state(4), &sittings()).unwrap();
    let headers: Vec<_> = names(&folder).into_iter().filter(|n| n.ends_with("json")).collect();
    assert_eq!(headers.len(), 2, "{what}: {headers:?}");
    assert_eq!(headers[0], "00000002.json", "{what}");
    assert_eq!(Store::new(&folder).load().unwrap().unwrap().state, state(4), "{what}");
}

#[test]
fn missing_cut_and_flipped_files_are_passed_over() {
    let (_root, folder) = three();
    for file in NEWEST {
        let length = fs::read(folder.join(file)).unwrap().len();
        falls_back(file, "missing", |_| None);
        falls_back(file, "empty", |_| Some(vec![]));
        falls_back(file, "longer", |bytes| Some([bytes, vec![0]].concat()));
        let mut rng = Random::new(6, file);
        for _ in 0..20 {
            let cut = rng.below(length);
            falls_back(file, &format!("cut at {cut}"), |bytes| Some(bytes[..cut].to_vec()));
            let (at, bit) = (rng.below(length), rng.below(8));
            falls_back(file, &format!("bit {bit} of byte {at}"), |mut bytes| {
                bytes[at] ^= 1 << bit;
                Some(bytes)
            });
            // A page that was never written.
            falls_back(file, &format!("zeros at {at}"), |mut bytes| {
                let end = (at + 64).min(length);
                let zeros = bytes[at..end].iter().all(|b| *b == 0);
                bytes[at..end].fill(if zeros { 255 } else { 0 });
                Some(bytes)
            });
        }
    }
    falls_back(NEWEST[1], "another's tensors", |_| Some(fs::read(folder.join("00000002.safetensors")).unwrap()));
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_header_is_found() {
    let (_root, folder) = three();
    let path = folder.join(NEWEST[0]);
    let whole = fs::read(&path).unwrap();
    let passed_over = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let loaded = Store::new(&folder).load().unwrap().unwrap();
        loaded.notes.len() == 1 && loaded.state.current.unwrap().step == 2
    };
    for at in 0..whole.len() {
        assert!(passed_over(&whole[..at]), "cut at {at}");
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(passed_over(&flipped), "bit {} of byte {at}", at % 8);
    }
    assert!(!passed_over(&whole), "the whole file is good");
}

#[test]
fn what_a_killed_process_left_is_no_checkpoint_and_goes_away() {
    let (_root, folder) = three();
    fs::write(folder.join("00000004.safetensors"), b"half of the tens").unwrap();
    fs::write(folder.join(".eblora-x1Y2z3.tmp"), b"half").unwrap();
    fs::write(folder.join("notes.txt"), b"the user's own").unwrap();
    let mut store = Store::new(&folder);
    let loaded = store.load().unwrap().unwrap();
    assert_eq!((loaded.state, loaded.notes.len()), (state(3), 1));
    store.save(&state(5), &sittings()).unwrap();
    let left = names(&folder);
    assert_eq!(left, [&NEWEST[..], &["00000005.json", "00000005.safetensors", "notes.txt"]].concat());
    store.clear().unwrap();
    assert_eq!(names(&folder), ["notes.txt"]);
    fs::write(folder.join("00000001.safetensors"), b"no header was ever written").unwrap();
    assert!(Store::new(&folder).load().unwrap().is_none());
}

#[test]
fn where_none_is_good_every_reason_is_told() {
    let (_root, folder) = three();
    for file in ["00000002.json", "00000003.safetensors"] {
        fs::write(folder.join(file), "x").unwrap();
    }
    let error = Store::new(&folder).load().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CheckpointError::NoneGood { .. }), "{text}");
    for part in ["00000002.json", "00000003.safetensors", "1 bytes of", "--restart"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_later_version_is_an_error_and_an_unknown_format_too() {
    let (_root, folder) = three();
    let path = folder.join(NEWEST[0]);
    let whole = String::from_utf8(fs::read(&path).unwrap()).unwrap();
    let with = |from: &str, to: &str| {
        let content = whole.split_once("\"content\":").unwrap().1.strip_suffix("}\n").unwrap().replacen(from, to, 1);
        let sum = crc32fast::hash(content.as_bytes());
        fs::write(&path, format!("{{\"crc32\":\"{sum:08x}\",\"content\":{content}}}\n")).unwrap();
        Store::new(&folder).load()
    };
    assert!(with("", "").unwrap().unwrap().notes.is_empty(), "the frame of this test is right");
    let error = with("\"version\":1", "\"version\":2").unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { version: 2, .. }), "{error}");
    assert!(error.to_string().contains("version 2, and this eblora reads 1"), "{error}");
    let note = |loaded: Option<eblora::checkpoint::Loaded>| loaded.unwrap().notes[0].clone();
    assert!(note(with("eblora.checkpoint", "another").unwrap()).contains("format \"another\""));
    assert!(note(with("\"step\":3", "\"step\":\"three\"").unwrap()).contains("at `current.step`"));
}

#[test]
fn what_cannot_be_written_is_an_error_and_loses_nothing() {
    let (root, folder) = three();
    // A number that is not finite is not saved.
    let mut broken = state(4);
    broken.record.losses[0][1] = f64::NAN;
    let mut others = [broken, state(4), state(4), state(4)];
    others[1].current.as_mut().unwrap().adapters.factors[0].u[(0, 0)] = f32::INFINITY;
    others[2].remembered.insert("memory1.energies".into(), Value::Reals(vec![f64::NAN]));
    others[3].current.as_mut().unwrap().losses[0] = f64::INFINITY;
    for other in &others {
        let error = Store::new(&folder).save(other, &sittings()).unwrap_err();
        assert!(matches!(error, CheckpointError::NonFinite { .. }), "{error}");
    }
    assert_eq!(Store::new(&folder).load().unwrap().unwrap().state, state(3));
    // Below a plain file, which no user can write, root neither.
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    for place in [file.join("below"), file] {
        let error = Store::new(place).save(&state(1), &sittings()).unwrap_err();
        assert!(matches!(error, CheckpointError::Write(_)) && error.to_string().contains("--resume"), "{error}");
    }
}
