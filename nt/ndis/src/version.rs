//! Which version a driver reports, and which revisions of structures it may use then.
//!
//! A driver must not report a version that NDIS does not have, nor use revisions newer than the one it reports.

use nt_sys::ndis::*;

/// Revision of a structure, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// `*_REVISION_*`.
    pub number: u8,
    /// `NDIS_SIZEOF_*`.
    pub size: u16,
}

impl Revision {
    const fn new(number: u8, size: u16) -> Revision {
        Revision { number, size }
    }

    /// The header of a structure of this revision.
    pub const fn header(self, object: u8) -> NDIS_OBJECT_HEADER {
        NDIS_OBJECT_HEADER::new(object, self.number, self.size)
    }
}

/// What goes with the NDIS that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Reported: major and minor.
    pub reported: (u8, u8),
    /// Of `NDIS_MINIPORT_DRIVER_CHARACTERISTICS`.
    pub characteristics: Revision,
    /// Of `NDIS_OFFLOAD`.
    pub offload: Revision,
    /// Of `NDIS_RECEIVE_SCALE_CAPABILITIES`.
    pub scale: Revision,
}

impl Version {
    /// By `NdisGetVersion`'s answer.
    pub const fn of(runtime: u32) -> Version {
        if runtime < NDIS_RUNTIME_VERSION_660 {
            return Version {
                reported: (6, 30),
                characteristics: Revision::new(
                    NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
                    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
                ),
                offload: Revision::new(
                    NDIS_OFFLOAD_REVISION_3,
                    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3,
                ),
                scale: Revision::new(
                    NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_2,
                    NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_2,
                ),
            };
        }
        let scale = Revision::new(
            NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_3,
            NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_3,
        );
        // From 6.83 on there is UDP segmentation (Learn, "UDP Segmentation Offload (USO)": Windows 10, version 2004;
        // nbluso.h: NDIS_SUPPORT_NDIS683).
        if runtime < NDIS_RUNTIME_VERSION_683 {
            return Version {
                reported: (6, 60),
                characteristics: Revision::new(
                    NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
                    NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
                ),
                offload: Revision::new(
                    NDIS_OFFLOAD_REVISION_4,
                    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4,
                ),
                scale,
            };
        }
        Version {
            reported: ((runtime >> 16) as u8, runtime as u8),
            characteristics: Revision::new(
                NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
                NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
            ),
            offload: Revision::new(NDIS_OFFLOAD_REVISION_6, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6),
            scale,
        }
    }

    /// As OID_GEN_DRIVER_VERSION says it: the major version in the upper byte.
    pub const fn number(&self) -> u16 {
        (self.reported.0 as u16) << 8 | self.reported.1 as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_never_reports_more_than_there_is() {
        for minor in 30..=95_u32 {
            let version = Version::of(6 << 16 | minor);
            assert!(u32::from(version.reported.1) <= minor, "{minor}");
        }
    }

    #[test]
    fn a_new_ndis_gets_its_own_version_back() {
        let version = Version::of(NDIS_RUNTIME_VERSION_689);
        assert_eq!((version.reported, version.number()), ((6, 89), 0x0659));
        assert_eq!(version.characteristics.size, 160);
        assert_eq!(version.offload, Revision::new(6, 0xD8));
    }

    #[test]
    fn the_first_version_with_udp_segmentation_is_reported() {
        let version = Version::of(NDIS_RUNTIME_VERSION_683);
        assert_eq!((version.reported, version.offload.number), ((6, 83), 6));
    }

    #[test]
    fn revisions_belong_to_the_version_reported() {
        let old = Version::of(NDIS_RUNTIME_VERSION_650);
        assert_eq!(old.reported, (6, 30));
        assert_eq!((old.offload.number, old.scale.number), (3, 2));
        let middle = Version::of(NDIS_RUNTIME_VERSION_683 - 1);
        assert_eq!(middle.reported, (6, 60));
        assert_eq!((middle.offload.number, middle.scale.number), (4, 3));
        assert_eq!(middle.characteristics, Revision::new(2, 152));
    }
}
