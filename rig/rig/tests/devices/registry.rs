//! The registry through the functions that drivers import.

use std::ptr::null_mut;

use nt_host::cm::zw::{
    ZwClose, ZwCreateKey, ZwDeleteKey, ZwDeleteValueKey, ZwEnumerateKey, ZwOpenKey,
    ZwQueryValueKey, ZwSetValueKey,
};
use nt_sys::{
    HANDLE, KEY_ALL_ACCESS, KEY_READ, KeyBasicInformation, KeyValuePartialInformation, NTSTATUS,
    OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, REG_CREATED_NEW_KEY, REG_DWORD,
    REG_OPENED_EXISTING_KEY, STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_HANDLE, STATUS_KEY_DELETED, STATUS_NO_MORE_ENTRIES,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SUCCESS, UNICODE_STRING,
};

struct Text(Vec<u16>);

impl Text {
    fn new(text: &str) -> Self {
        Self(text.encode_utf16().collect())
    }

    fn string(&mut self) -> UNICODE_STRING {
        let bytes = (self.0.len() * 2) as u16;
        UNICODE_STRING {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: self.0.as_mut_ptr(),
        }
    }
}

fn with_attributes<R>(
    root: HANDLE,
    path: &str,
    use_them: impl FnOnce(*const OBJECT_ATTRIBUTES) -> R,
) -> R {
    let mut text = Text::new(path);
    let mut name = text.string();
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root,
        ObjectName: &raw mut name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    };
    use_them(&raw const attributes)
}

fn open(root: HANDLE, path: &str, access: u32) -> Result<HANDLE, NTSTATUS> {
    let mut key = null_mut();
    // SAFETY: the attributes and the place for the handle are valid.
    let status = with_attributes(root, path, |attributes| unsafe {
        ZwOpenKey(&raw mut key, access, attributes)
    });
    if status == STATUS_SUCCESS {
        Ok(key)
    } else {
        Err(status)
    }
}

fn create(root: HANDLE, path: &str) -> (HANDLE, u32) {
    let (mut key, mut how) = (null_mut(), 0);
    let (place, disposition) = (&raw mut key, &raw mut how);
    let status = with_attributes(root, path, |attributes| {
        // SAFETY: the attributes and the places are valid.
        unsafe {
            ZwCreateKey(
                place,
                KEY_ALL_ACCESS,
                attributes,
                0,
                null_mut(),
                0,
                disposition,
            )
        }
    });
    assert_eq!(status, STATUS_SUCCESS);
    (key, how)
}

fn set(key: HANDLE, name: &str, number: u32) -> NTSTATUS {
    let mut text = Text::new(name);
    let (name, mut data) = (text.string(), number);
    // SAFETY: the name and four bytes of data are valid.
    unsafe {
        ZwSetValueKey(
            key,
            &raw const name,
            0,
            REG_DWORD,
            (&raw mut data).cast(),
            4,
        )
    }
}

fn query(key: HANDLE, name: &str, room: usize) -> (NTSTATUS, u32, Vec<u8>) {
    let mut text = Text::new(name);
    let name = text.string();
    let (mut out, mut needed) = (vec![0u8; room], 0);
    let place = out.as_mut_ptr().cast();
    // SAFETY: the name, the buffer and the place for its length are valid.
    let status = unsafe {
        ZwQueryValueKey(
            key,
            &raw const name,
            KeyValuePartialInformation,
            place,
            room as u32,
            &raw mut needed,
        )
    };
    (status, needed, out)
}

fn close(key: HANDLE) -> NTSTATUS {
    // SAFETY: nothing uses the handle afterwards.
    unsafe { ZwClose(key) }
}

/// The statuses that drivers rely on.
pub fn run() {
    crate::on_thread(|| {
        const SERVICES: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services";
        nt_host::cm::seed("XEN:BALLOON=OFF");
        let control = open(
            null_mut(),
            r"\REGISTRY\machine\system\currentcontrolset\Control",
            KEY_READ,
        )
        .unwrap();
        let (status, _, data) = query(control, "systemstartoptions", 256);
        assert_eq!(
            (status, data[12..16].to_vec()),
            (STATUS_SUCCESS, vec![b' ', 0, b'X', 0])
        );
        assert_eq!(set(control, "x", 1), STATUS_ACCESS_DENIED);
        assert_eq!(close(control), STATUS_SUCCESS);
        assert_eq!(close(control), STATUS_INVALID_HANDLE);

        assert_eq!(
            open(null_mut(), r"\Registry\Machine\None", KEY_READ),
            Err(STATUS_OBJECT_NAME_NOT_FOUND)
        );
        assert_eq!(
            open(null_mut(), "Registry", KEY_READ),
            Err(STATUS_OBJECT_PATH_SYNTAX_BAD)
        );

        let services = open(null_mut(), SERVICES, KEY_ALL_ACCESS).unwrap();
        let (key, how) = create(services, "test");
        assert_eq!(how, REG_CREATED_NEW_KEY);
        let (again, how) = create(null_mut(), &format!(r"{SERVICES}\TEST"));
        assert_eq!(how, REG_OPENED_EXISTING_KEY);
        assert_eq!(set(key, "Number", 7), STATUS_SUCCESS);
        assert_eq!(
            query(again, "NUMBER", 0),
            (STATUS_BUFFER_TOO_SMALL, 16, vec![])
        );
        assert_eq!(query(again, "NUMBER", 12).0, STATUS_BUFFER_OVERFLOW);
        let (status, needed, data) = query(again, "NUMBER", 16);
        assert_eq!((status, needed, data[12]), (STATUS_SUCCESS, 16, 7));

        let (mut out, mut needed) = ([0u8; 64], 0u32);
        let place = out.as_mut_ptr().cast();
        // SAFETY: the buffer and the place for its length are valid.
        let status =
            unsafe { ZwEnumerateKey(services, 0, KeyBasicInformation, place, 64, &raw mut needed) };
        assert_eq!((status, needed, out[16]), (STATUS_SUCCESS, 16 + 8, b't'));
        // SAFETY: as above.
        let status =
            unsafe { ZwEnumerateKey(services, 1, KeyBasicInformation, place, 64, &raw mut needed) };
        assert_eq!(status, STATUS_NO_MORE_ENTRIES);

        let mut text = Text::new("number");
        let name = text.string();
        // SAFETY: the name is valid.
        let status = unsafe { ZwDeleteValueKey(key, &raw const name) };
        assert_eq!(status, STATUS_SUCCESS);
        assert_eq!(query(key, "Number", 16).0, STATUS_OBJECT_NAME_NOT_FOUND);
        // SAFETY: the handle is valid.
        assert_eq!(unsafe { ZwDeleteKey(key) }, STATUS_SUCCESS);
        assert_eq!(set(again, "Number", 7), STATUS_KEY_DELETED);
        for key in [key, again, services] {
            assert_eq!(close(key), STATUS_SUCCESS);
        }
    });
}
