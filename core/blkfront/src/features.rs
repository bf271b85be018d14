//! What the backend writes about itself, checked. The registry may override each of it but the geometry.
//!
//! # Units
//! blkif.h counts sectors of 512 bytes. Backends differ once `sector-size` is larger: xen-blkback (`backend/vbd/...`)
//! keeps to 512 everywhere, QEMU (`backend/qdisk/...`) means `sector-size` everywhere, given that the frontend says
//! `feature-large-sector-size`, which this one does. So 512-byte sectors work with every backend, larger ones with
//! these two by the kind in the backend's path; any other combination is refused rather than guessed at, because a
//! wrong guess destroys data.

use core::fmt;
use xen_abi::blkif;
pub use xenstore::Value;

/// Reads one key of the backend's directory.
pub type Get<'a> = &'a mut dyn FnMut(&str) -> Value;

/// Values from the registry that replace (or, for the two maxima, limit) the backend's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Overrides {
    pub removable: Option<u32>,
    pub barrier: Option<u32>,
    pub flush: Option<u32>,
    pub discard: Option<u32>,
    pub discard_enable: Option<u32>,
    pub discard_alignment: Option<u32>,
    pub discard_granularity: Option<u32>,
    pub max_ring_page_order: Option<u32>,
    pub max_queues: Option<u32>,
}

/// What bounds the connection; read before connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Binary logarithm of the ring's pages.
    pub ring_page_order: u32,
    /// Number of rings, at least 1.
    pub queues: u32,
}

impl Limits {
    /// The smaller of what the backend, the registry and `own_queues` allow.
    pub fn read(get: Get<'_>, overrides: &Overrides, own_queues: u32) -> Self {
        let order = get("max-ring-page-order").or(0);
        let queues = get("multi-queue-max-queues").or(1);
        let limit = |backend: u64, registry: Option<u32>, own: u32| {
            u32::try_from(backend)
                .unwrap_or(u32::MAX)
                .min(registry.unwrap_or(u32::MAX))
                .min(own)
        };
        Limits {
            ring_page_order: limit(
                order,
                overrides.max_ring_page_order,
                blkif::MAX_RING_PAGE_ORDER,
            ),
            queues: limit(queues, overrides.max_queues, own_queues).max(1),
        }
    }
}

/// What the backend can do besides reading and writing; read once it is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// WRITE_BARRIER.
    pub barrier: bool,
    /// FLUSH_DISKCACHE.
    pub flush: bool,
    /// DISCARD.
    pub discard: Option<Discard>,
    /// The device can be unplugged at run time.
    pub removable: bool,
}

/// How the backend discards, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    /// Unit of discarding; 0 if unknown.
    pub granularity: u32,
    /// Offset of the first unit.
    pub alignment: u32,
}

impl Features {
    /// Reads the keys; features are off unless offered, and nothing is kept from an earlier connection.
    pub fn read(get: Get<'_>, overrides: &Overrides) -> Self {
        let mut value = |key: &str, registry: Option<u32>, default: u64| match registry {
            Some(value) => u64::from(value),
            None => get(key).or(default),
        };
        let discard = value("feature-discard", overrides.discard, 0) != 0
            && value("discard-enable", overrides.discard_enable, 1) != 0;
        let bytes = |value: u64| u32::try_from(value).unwrap_or(0);
        let alignment = bytes(value("discard-alignment", overrides.discard_alignment, 0));
        let granularity = bytes(value(
            "discard-granularity",
            overrides.discard_granularity,
            0,
        ));
        Features {
            barrier: value("feature-barrier", overrides.barrier, 0) != 0,
            flush: value("feature-flush-cache", overrides.flush, 0) != 0,
            discard: discard.then_some(Discard {
                granularity,
                alignment,
            }),
            removable: value("removable", overrides.removable, 0) != 0,
        }
    }
}

/// The disk's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in logical blocks, not 0.
    pub blocks: u64,
    /// Logical block in bytes: a power of two from 512 to 4096.
    pub block_size: u32,
    /// Physical block in bytes: a power of two, not below the logical one.
    pub physical_block_size: u32,
    /// What the ring counts in, in bytes.
    pub unit: u32,
    /// Bits of the key `info`: INFO_*.
    pub info: u32,
}

/// Why a disk is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `sector-size` is not a power of two from 512 to 4096.
    SectorSize(Value),
    /// `sectors` is missing, zero, or more than 64 bits of bytes.
    Sectors(Value),
    /// The unit this kind of backend counts in with such sectors is not known.
    UnknownUnit,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SectorSize(value) => write!(f, "impossible sector-size: {value:?}"),
            Self::Sectors(value) => write!(f, "impossible number of sectors: {value:?}"),
            Self::UnknownUnit => f.write_str("large sectors of an unknown kind of backend"),
        }
    }
}

impl Geometry {
    /// Reads the keys. `backend` is the backend directory's path, whose kind decides about the unit.
    pub fn read(get: Get<'_>, backend: &[u8]) -> Result<Self, Refusal> {
        let size = get("sector-size");
        let block_size = match size {
            Value::Missing => 512,
            Value::Number(bytes @ (512 | 1024 | 2048 | 4096)) => bytes as u32,
            _ => return Err(Refusal::SectorSize(size)),
        };
        let unit = unit(backend, block_size).ok_or(Refusal::UnknownUnit)?;
        let physical_block_size = match get("physical-sector-size") {
            Value::Number(bytes) if bytes.is_power_of_two() && bytes >= u64::from(block_size) => {
                u32::try_from(bytes).unwrap_or(block_size)
            }
            _ => block_size,
        };
        let sectors = get("sectors");
        let blocks = match sectors {
            Value::Number(number) => number
                .checked_mul(u64::from(unit))
                .and_then(|bytes| bytes.checked_div(u64::from(block_size)))
                .filter(|blocks| *blocks != 0)
                .ok_or(Refusal::Sectors(sectors))?,
            _ => return Err(Refusal::Sectors(sectors)),
        };
        let info = u32::try_from(get("info").or(0)).unwrap_or(0);
        Ok(Geometry {
            blocks,
            block_size,
            physical_block_size,
            unit,
            info,
        })
    }

    /// Ring sectors in a block.
    pub fn sectors_per_block(&self) -> u64 {
        u64::from(self.block_size.checked_div(self.unit).unwrap_or(1))
    }
}

/// The unit of sector numbers and counts, by the kind of backend.
fn unit(backend: &[u8], block_size: u32) -> Option<u32> {
    let mut components = backend
        .split(|byte| *byte == b'/')
        .skip_while(|part| *part != b"backend");
    let kind = components.nth(1);
    match kind {
        _ if block_size == 512 => Some(512),
        Some(b"vbd") => Some(512),
        Some(b"qdisk") => Some(block_size),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VBD: &[u8] = b"/local/domain/0/backend/vbd/1/51712";
    const QDISK: &[u8] = b"/local/domain/0/backend/qdisk/1/51712";

    fn directory<'a>(keys: &'a [(&'a str, &'a str)]) -> impl FnMut(&str) -> Value + 'a {
        move |key| {
            Value::parse(
                keys.iter()
                    .find(|(name, _)| *name == key)
                    .map(|(_, text)| text.as_bytes()),
            )
        }
    }

    #[test]
    fn a_linux_backend_is_understood() {
        let keys = [
            ("max-ring-page-order", "4"),
            ("multi-queue-max-queues", "2"),
            ("feature-flush-cache", "1"),
            ("feature-discard", "1"),
            ("discard-granularity", "4096"),
            ("discard-alignment", "0"),
            ("feature-barrier", "1"),
            ("sectors", "2048"),
            ("info", "4"),
            ("sector-size", "512"),
            ("physical-sector-size", "4096"),
        ];
        let mut get = directory(&keys);
        let limits = Limits::read(&mut get, &Overrides::default(), 8);
        assert_eq!(
            limits,
            Limits {
                ring_page_order: 4,
                queues: 2
            }
        );
        let features = Features::read(&mut get, &Overrides::default());
        let discard = Some(Discard {
            granularity: 4096,
            alignment: 0,
        });
        assert_eq!(
            features,
            Features {
                barrier: true,
                flush: true,
                discard,
                removable: false
            }
        );
        let geometry = Geometry::read(&mut get, VBD).unwrap();
        assert_eq!(
            (
                geometry.blocks,
                geometry.block_size,
                geometry.physical_block_size
            ),
            (2048, 512, 4096)
        );
        assert_eq!((geometry.unit, geometry.info), (512, blkif::INFO_READONLY));
    }

    #[test]
    fn a_backend_that_says_little_gets_the_basics() {
        let mut get = directory(&[("sectors", "1")]);
        assert_eq!(
            Limits::read(&mut get, &Overrides::default(), 8),
            Limits {
                ring_page_order: 0,
                queues: 1
            }
        );
        assert_eq!(
            Features::read(&mut get, &Overrides::default()),
            Features::default()
        );
        assert_eq!(Geometry::read(&mut get, VBD).unwrap().block_size, 512);
    }

    #[test]
    fn the_registry_replaces_features_and_limits_maxima() {
        let keys = [
            ("max-ring-page-order", "4"),
            ("multi-queue-max-queues", "8"),
            ("feature-flush-cache", "1"),
        ];
        let overrides = Overrides {
            max_ring_page_order: Some(1),
            max_queues: Some(0),
            flush: Some(0),
            barrier: Some(1),
            ..Overrides::default()
        };
        let mut get = directory(&keys);
        assert_eq!(
            Limits::read(&mut get, &overrides, 8),
            Limits {
                ring_page_order: 1,
                queues: 1
            }
        );
        let features = Features::read(&mut get, &overrides);
        assert!(features.barrier && !features.flush);
    }

    #[test]
    fn discard_can_be_offered_and_disabled() {
        let mut get = directory(&[("feature-discard", "1"), ("discard-enable", "0")]);
        assert_eq!(
            Features::read(&mut get, &Overrides::default()).discard,
            None
        );
    }

    #[test]
    fn an_impossible_shape_is_refused() {
        let shape = |keys: &[(&str, &str)]| Geometry::read(&mut directory(keys), VBD);
        for size in [
            "0",
            "513",
            "256",
            "8192",
            "-512",
            "",
            "512x",
            "18446744073709551616",
        ] {
            assert!(
                matches!(
                    shape(&[("sectors", "8"), ("sector-size", size)]),
                    Err(Refusal::SectorSize(_))
                ),
                "{size}"
            );
        }
        for sectors in ["0", "", "many", "18446744073709551615"] {
            assert!(
                matches!(shape(&[("sectors", sectors)]), Err(Refusal::Sectors(_))),
                "{sectors}"
            );
        }
        assert!(matches!(shape(&[]), Err(Refusal::Sectors(Value::Missing))));
        let physical = [
            ("sectors", "8"),
            ("sector-size", "512"),
            ("physical-sector-size", "256"),
        ];
        assert_eq!(shape(&physical).unwrap().physical_block_size, 512);
    }

    #[test]
    fn large_sectors_are_counted_as_the_backend_counts() {
        let keys = [("sectors", "800"), ("sector-size", "4096")];
        let linux = Geometry::read(&mut directory(&keys), VBD).unwrap();
        assert_eq!(
            (linux.blocks, linux.unit, linux.sectors_per_block()),
            (100, 512, 8)
        );
        let qemu = Geometry::read(&mut directory(&keys), QDISK).unwrap();
        assert_eq!(
            (qemu.blocks, qemu.unit, qemu.sectors_per_block()),
            (800, 4096, 1)
        );
        for other in [
            &b"/local/domain/0/backend/vbd3/1/51712"[..],
            b"",
            b"backend",
        ] {
            assert_eq!(
                Geometry::read(&mut directory(&keys), other),
                Err(Refusal::UnknownUnit)
            );
        }
    }

    proptest! {
        #[test]
        fn any_values_are_survived(values in proptest::collection::vec(any::<Option<u64>>(), 16), own in 1u32..64) {
            let mut index = 0;
            let mut get = |_: &str| {
                index += 1;
                values[index % values.len()].map_or(Value::Garbage, Value::Number)
            };
            let limits = Limits::read(&mut get, &Overrides::default(), own);
            prop_assert!(limits.ring_page_order <= 4 && (1..=own).contains(&limits.queues));
            Features::read(&mut get, &Overrides::default());
            if let Ok(geometry) = Geometry::read(&mut get, QDISK) {
                prop_assert!(geometry.blocks.checked_mul(geometry.block_size.into()).is_some());
                prop_assert!(geometry.physical_block_size >= geometry.block_size);
            }
        }
    }
}
