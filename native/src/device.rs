//! Where a run computes: the CPU, or a GPU by number or name.

use std::fmt;
use std::str::FromStr;

use eblora_gpu::Wanted;
#[cfg(feature = "cli")]
use {crate::Error, eblora_gpu::Gpu};

/// The device of a run: `cpu`, `gpu` (the best one), `gpu:1` (by its number in `eblora devices`), or a part of an
/// adapter's name.
///
/// ```
/// use eblora::device::Device;
/// assert_eq!("cpu".parse(), Ok(Device::Cpu));
/// assert_eq!("gpu:1".parse::<Device>().map(|d| d.to_string()), Ok("gpu:1".to_owned()));
/// assert!("gpu:first".parse::<Device>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, bit for bit repeatable.
    #[default]
    Cpu,
    /// A GPU.
    Gpu(Wanted),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.strip_prefix("gpu:")) {
            ("", _) => return Err("cpu, gpu, gpu:N or a part of an adapter's name is expected".to_owned()),
            ("cpu", _) => Self::Cpu,
            ("gpu", _) => Self::Gpu(Wanted::Best),
            (_, Some(number)) => {
                let index =
                    number.parse().map_err(|_| format!("gpu:{number}: a number of `eblora devices` is expected"))?;
                Self::Gpu(Wanted::Index(index))
            }
            (name, None) => Self::Gpu(Wanted::Name(name.to_owned())),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(Wanted::Best) => f.write_str("gpu"),
            Self::Gpu(Wanted::Index(i)) => write!(f, "gpu:{i}"),
            Self::Gpu(Wanted::Name(name)) => f.write_str(name),
        }
    }
}

/// Opens a GPU; the second value warns of one that is none.
///
/// # Errors
/// When there is no such adapter, or its driver gives no device.
#[cfg(feature = "cli")]
pub fn open(wanted: &Wanted) -> Result<(Gpu, Option<String>), Error> {
    let gpu = pollster::block_on(Gpu::open(wanted))?;
    let warning = gpu.is_software().then(|| {
        let name = &gpu.info().name;
        format!("{name} is a software adapter: it computes on the CPU, and more slowly than --device cpu does")
    });
    Ok((gpu, warning))
}
