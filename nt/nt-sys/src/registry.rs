//! What the registry functions read and write.

// Value types (winnt.h: REG_*)
pub const REG_NONE: u32 = 0;
pub const REG_SZ: u32 = 1;
pub const REG_EXPAND_SZ: u32 = 2;
pub const REG_BINARY: u32 = 3;
pub const REG_DWORD: u32 = 4;
pub const REG_MULTI_SZ: u32 = 7;
pub const REG_QWORD: u32 = 11;

// Key access (winnt.h: KEY_*)
pub const KEY_QUERY_VALUE: u32 = 0x0001;
pub const KEY_SET_VALUE: u32 = 0x0002;
pub const KEY_CREATE_SUB_KEY: u32 = 0x0004;
pub const KEY_ENUMERATE_SUB_KEYS: u32 = 0x0008;
pub const KEY_READ: u32 = 0x0002_0019;
pub const KEY_WRITE: u32 = 0x0002_0006;
pub const KEY_ALL_ACCESS: u32 = 0x000F_003F;

// ZwCreateKey's options and disposition (winnt.h)
pub const REG_OPTION_NON_VOLATILE: u32 = 0;
pub const REG_OPTION_VOLATILE: u32 = 1;
pub const REG_CREATED_NEW_KEY: u32 = 1;
pub const REG_OPENED_EXISTING_KEY: u32 = 2;

// KEY_VALUE_INFORMATION_CLASS
pub const KeyValueBasicInformation: i32 = 0;
pub const KeyValueFullInformation: i32 = 1;
pub const KeyValuePartialInformation: i32 = 2;

// KEY_INFORMATION_CLASS
pub const KeyBasicInformation: i32 = 0;
pub const KeyNodeInformation: i32 = 1;
pub const KeyFullInformation: i32 = 2;

/// The data follow at `Data`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEY_VALUE_PARTIAL_INFORMATION {
    pub TitleIndex: u32,
    pub Type: u32,
    /// Bytes.
    pub DataLength: u32,
    pub Data: [u8; 1],
}

/// The name follows at `Name`, the data at `DataOffset` bytes from the start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEY_VALUE_FULL_INFORMATION {
    pub TitleIndex: u32,
    pub Type: u32,
    pub DataOffset: u32,
    pub DataLength: u32,
    pub NameLength: u32,
    pub Name: [u16; 1],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEY_VALUE_BASIC_INFORMATION {
    pub TitleIndex: u32,
    pub Type: u32,
    pub NameLength: u32,
    pub Name: [u16; 1],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEY_BASIC_INFORMATION {
    pub LastWriteTime: i64,
    pub TitleIndex: u32,
    pub NameLength: u32,
    pub Name: [u16; 1],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEY_FULL_INFORMATION {
    pub LastWriteTime: i64,
    pub TitleIndex: u32,
    pub ClassOffset: u32,
    pub ClassLength: u32,
    pub SubKeys: u32,
    pub MaxNameLen: u32,
    pub MaxClassLen: u32,
    pub Values: u32,
    pub MaxValueNameLen: u32,
    pub MaxValueDataLen: u32,
    pub Class: [u16; 1],
}

layouts! {
    KEY_VALUE_PARTIAL_INFORMATION = 16 { TitleIndex: 0, Type: 4, DataLength: 8, Data: 12 }
    KEY_VALUE_FULL_INFORMATION = 24 { Type: 4, DataOffset: 8, DataLength: 12, NameLength: 16, Name: 20 }
    KEY_VALUE_BASIC_INFORMATION = 16 { Type: 4, NameLength: 8, Name: 12 }
    KEY_BASIC_INFORMATION = 24 { LastWriteTime: 0, TitleIndex: 8, NameLength: 12, Name: 16 }
    KEY_FULL_INFORMATION = 48 { SubKeys: 20, MaxNameLen: 24, Values: 32, MaxValueNameLen: 36, MaxValueDataLen: 40, Class: 44 }
}
