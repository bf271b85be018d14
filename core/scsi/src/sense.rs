//! Sense data in fixed format (SPC-4: "Fixed format sense data").

/// Why a command ended with CHECK CONDITION: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Bytes of fixed-format sense data.
    pub const LENGTH: usize = 18;

    /// Nothing to report.
    pub const NONE: Sense = Sense::new(0x00, 0x00, 0x00);
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
    pub const NOT_READY: Sense = Sense::new(0x02, 0x04, 0x00);
    /// WRITE ERROR.
    pub const WRITE_ERROR: Sense = Sense::new(0x03, 0x0c, 0x00);
    /// UNRECOVERED READ ERROR.
    pub const READ_ERROR: Sense = Sense::new(0x03, 0x11, 0x00);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH: Sense = Sense::new(0x05, 0x1a, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Sense = Sense::new(0x05, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const OUT_OF_RANGE: Sense = Sense::new(0x05, 0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Sense = Sense::new(0x05, 0x24, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_PARAMETER: Sense = Sense::new(0x05, 0x26, 0x00);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const NO_SAVED_PARAMETERS: Sense = Sense::new(0x05, 0x39, 0x00);
    /// CAPACITY DATA HAS CHANGED, a unit attention.
    pub const CAPACITY_CHANGED: Sense = Sense::new(0x06, 0x2a, 0x09);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Sense = Sense::new(0x07, 0x27, 0x00);
    /// Aborted command, no additional information: the initiator may try again.
    pub const ABORTED: Sense = Sense::new(0x0b, 0x00, 0x00);

    const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Sense { key, asc, ascq }
    }

    /// The sense data as bytes.
    pub fn fixed(&self) -> [u8; Self::LENGTH] {
        const CURRENT: u8 = 0x70;
        const ADDITIONAL: u8 = (Sense::LENGTH - 8) as u8;
        [
            CURRENT, 0, self.key, 0, 0, 0, 0, ADDITIONAL, 0, 0, 0, 0, self.asc, self.ascq, 0, 0, 0,
            0,
        ]
    }

    /// Writes as much of the sense data as there is room for; the number of bytes written.
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        let data = self.fixed();
        for (to, from) in buffer.iter_mut().zip(data) {
            *to = from;
        }
        data.len().min(buffer.len())
    }
}
