//! What a driver image needs besides its own code: allocator, panic handler, the symbols that the compiler expects.

use crate::bug_check::FATAL;
use core::panic::PanicInfo;

/// Declares the global allocator (with the driver's pool tag), the panic handler and the floating-point marker.
///
/// ```text
/// nt::driver_runtime!(b"XENB");
/// ```
#[macro_export]
macro_rules! driver_runtime {
    ($tag:expr) => {
        #[global_allocator]
        static ALLOCATOR: $crate::PoolAllocator = $crate::PoolAllocator::new(*$tag);

        #[panic_handler]
        fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
            $crate::__panic(module_path!(), information)
        }

        // The compiler refers to this from any image that may use floating point.
        #[unsafe(no_mangle)]
        static _fltused: i32 = 0;
    };
}

/// Declares `DriverEntry`: `nt::driver_entry!(start)` with `fn start(&DriverObject, &Key) -> Result<()>`, where the
/// key is the service's.
#[macro_export]
macro_rules! driver_entry {
    ($start:path) => {
        /// The image's entry point.
        ///
        /// # Safety
        /// Called by the I/O manager only.
        #[unsafe(no_mangle)]
        pub unsafe extern "win64" fn DriverEntry(
            driver: *mut $crate::sys::DRIVER_OBJECT,
            path: *mut $crate::sys::UNICODE_STRING,
        ) -> $crate::sys::NTSTATUS {
            // SAFETY: the I/O manager passes this driver's object.
            let driver = unsafe { $crate::DriverObject::from_raw(driver) };
            // SAFETY: the I/O manager passes the service's registry path.
            let key = unsafe { $crate::Key::open_counted(path, $crate::registry::Access::All) };
            let result = match (driver, key) {
                (Some(driver), Ok(key)) => $start(&driver, &key),
                (None, _) => Err($crate::NtStatus::INVALID_PARAMETER),
                (_, Err(status)) => Err(status),
            };
            $crate::NtStatus::from(result).0
        }
    };
}

#[doc(hidden)]
pub fn panic(module: &str, information: &PanicInfo<'_>) -> ! {
    crate::log::write(
        crate::log::Level::Error,
        module,
        format_args!("{information}"),
    );
    let (file, line) = information
        .location()
        .map_or(("", 0), |at| (at.file(), at.line()));
    let text = information.message().as_str().unwrap_or_default();
    crate::bug_check(
        FATAL,
        [
            text.as_ptr() as usize,
            file.as_ptr() as usize,
            line as usize,
            0,
        ],
    )
}
