//! A method's parts, between the device and plain data.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{StateError, TrainError};
use crate::backend::{Backend, Shaped};
use crate::method::{Value, ValueError, Values};
use crate::optim::Part;

/// Reads the parts back.
pub async fn read<B: Backend>(backend: &B, parts: Vec<(String, Part<'_, B>)>) -> Result<Values<B::Scalar>, TrainError> {
    let mut values = Values::new();
    for (name, part) in parts {
        let value = match part {
            Part::Tensor(tensor) => Value::Tensor { shape: tensor.shape(), values: backend.read(tensor).await? },
            Part::Count(count) => Value::Count((*count).into()),
        };
        if values.insert(name.clone(), value).is_some() {
            return Err(StateError::Content { what: alloc::format!("two parts are called `{name}`") }.into());
        }
    }
    Ok(values)
}

/// Overwrites the parts; the values must be theirs, all of them and no others.
pub fn write<B: Backend>(
    backend: &B,
    parts: Vec<(String, Part<'_, B>)>,
    values: &Values<B::Scalar>,
) -> Result<(), TrainError> {
    let refused = |error: ValueError| TrainError::from(StateError::from(error));
    let kind = |name: &str, expected: String| refused(ValueError::Kind { name: name.to_string(), expected });
    if let Some(name) = values.keys().find(|name| parts.iter().all(|(part, _)| part != *name)) {
        return Err(refused(ValueError::Unknown { name: name.clone() }));
    }
    for (name, part) in parts {
        let value = values.get(&name).ok_or_else(|| refused(ValueError::Missing { name: name.clone() }))?;
        match (part, value) {
            (Part::Tensor(tensor), Value::Tensor { shape, values }) if *shape == tensor.shape() => {
                backend.write(tensor, values)?;
            }
            (Part::Tensor(tensor), _) => return Err(kind(&name, alloc::format!("a tensor of {:?}", tensor.shape()))),
            (Part::Count(count), Value::Count(saved)) if u32::try_from(*saved).is_ok() => *count = *saved as u32,
            (Part::Count(_), _) => return Err(kind(&name, "a count".to_string())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    type B = Cpu<f32>;

    fn both<'a>(tensor: &'a mut <B as Backend>::Tensor, count: &'a mut u32) -> Vec<(String, Part<'a, B>)> {
        Vec::from([("m".to_string(), Part::Tensor(tensor)), ("n".to_string(), Part::Count(count))])
    }

    #[test]
    fn parts_come_back_and_strangers_are_named() {
        let cpu = B::new();
        let (mut tensor, mut count) = (cpu.upload([1, 1, 2], &[1.0, -0.0]).unwrap(), 7);
        let saved = pollster::block_on(read(&cpu, both(&mut tensor, &mut count))).unwrap();
        let (mut other, mut zero) = (cpu.zeros([1, 1, 2]).unwrap(), 0);
        write(&cpu, both(&mut other, &mut zero), &saved).unwrap();
        assert_eq!(pollster::block_on(read(&cpu, both(&mut other, &mut zero))).unwrap(), saved);
        let mut refused = |change: fn(&mut Values<f32>)| {
            let mut values = saved.clone();
            change(&mut values);
            match write(&cpu, both(&mut tensor, &mut count), &values) {
                Err(TrainError::State(StateError::Parts(error))) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|v| drop(v.remove("n"))), "`n` is missing");
        assert_eq!(refused(|v| drop(v.insert("o".into(), Value::Count(1)))), "`o` is not known");
        assert_eq!(refused(|v| drop(v.insert("n".into(), Value::Count(1 << 40)))), "`n` is not a count");
        assert_eq!(refused(|v| drop(v.insert("m".into(), Value::Count(1)))), "`m` is not a tensor of [1, 1, 2]");
        let twice = both(&mut other, &mut zero).into_iter().map(|(_, part)| ("same".to_string(), part)).collect();
        let error = pollster::block_on(read(&cpu, twice)).unwrap_err();
        assert!(matches!(error, TrainError::State(StateError::Content { .. })), "{error}");
    }
}
