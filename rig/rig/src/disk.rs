//! A disk as its port driver offers it: what the workload and the NBD server speak to.
//!
//! [`Disk`] has two implementations: the disks of the storport host, and a memory disk for the tests of what is above.

/// Why a disk did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// The blocks are not on the disk.
    #[error("beyond the end of the disk")]
    OutOfRange,
    /// The disk cannot be written.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The disk is gone, or going.
    #[error("the disk is gone")]
    Gone,
    /// There is no memory for the request.
    #[error("no memory for the request")]
    NoMemory,
    /// Anything else; the driver's log says more.
    #[error("the disk reported an error")]
    Failed,
}

/// What a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name people use: `disk0`, or `xvda`.
    pub name: String,
    /// Blocks on the disk.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Most bytes in one request; a multiple of the block size.
    pub max_transfer: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// The disk takes `Op::Unmap`.
    pub unmap: bool,
}

impl Info {
    /// The disk's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the buffer from the disk.
    Read,
    /// Put the buffer on the disk.
    Write,
    /// Everything written so far is to survive a loss of power. No blocks, no buffer.
    Flush,
    /// The blocks' content is no longer needed. No buffer.
    Unmap,
}

/// Memory which a disk can transfer from and to.
pub trait Buffer: Send + 'static {
    /// The memory, in order; the pieces add up to the size that was asked for.
    fn pieces(&mut self) -> Vec<&mut [u8]>;
}

/// Called once with what became of a request, and the request's buffer. Runs on a virtual CPU at DISPATCH_LEVEL: it must
/// neither wait nor submit.
pub type Done<B> = Box<dyn FnOnce(Result<(), IoError>, Option<B>) + Send>;

/// A request.
pub struct Io<B> {
    /// What to do.
    pub op: Op,
    /// First block.
    pub block: u64,
    /// Number of blocks.
    pub blocks: u32,
    /// As many bytes as the blocks have, for `Read` and `Write`.
    pub buffer: Option<B>,
    /// What to do afterwards.
    pub done: Done<B>,
}

/// A disk. Requests are taken from any thread, in any number, and end in any order.
pub trait Disk: Send + Sync + 'static {
    /// Its kind of memory.
    type Buffer: Buffer;

    /// What it is.
    fn info(&self) -> &Info;
    /// Memory for a request; `None` when there is none left.
    fn buffer(&self, bytes: usize) -> Option<Self::Buffer>;
    /// Starts a request.
    fn submit(&self, io: Io<Self::Buffer>);
}
