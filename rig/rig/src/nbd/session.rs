//! One connection after its negotiation: requests in, replies out, many in flight.
//!
//! The reader takes a request apart into transfers that the disk takes, and submits them. The last one that ends puts the
//! answer into the writer's queue, from whatever thread it ends on. A write is not submitted before its bytes are there,
//! so a client that disappears in the middle of one leaves whole blocks, old or new.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    net::Shutdown,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use super::{
    Ended,
    address::Stream,
    budget::{Budget, Share},
    handshake::MAX_PAYLOAD,
    partial::{self, PartialWrites, Span},
    wire::*,
};
use crate::disk::{Buffer, Disk, Io, IoError, Op};

/// How long a client may take for the rest of something it has begun.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// Requests of one connection that may be in flight.
const MAX_REQUESTS: usize = 256;

/// What all connections did, for the report at the end.
#[derive(Default)]
pub(super) struct Counters {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub read: AtomicU64,
    pub written: AtomicU64,
}

/// Serves requests until the client leaves. When this returns, nothing of the connection is in flight.
pub(super) fn serve<D: Disk>(
    stream: &Stream,
    disk: &Arc<D>,
    memory: &Budget,
    partial_writes: &PartialWrites,
    counters: &Arc<Counters>,
) -> Result<(), Ended> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let (sender, answers) = mpsc::channel();
    let output = stream.try_clone()?;
    let (writer_disk, writer_sender) = (Arc::clone(disk), sender.clone());
    let writer_counters = Arc::clone(counters);
    let writer = thread::Builder::new()
        .name("nbd writer".to_owned())
        .spawn(move || {
            Writer {
                disk: writer_disk,
                counters: writer_counters,
            }
            .run(output, &answers, writer_sender)
        })?;
    let mut reader = Reader {
        input: BufReader::with_capacity(64 * 1024, stream.try_clone()?),
        disk,
        memory,
        partial_writes,
        slots: Budget::new(MAX_REQUESTS),
        answers: sender,
    };
    let result = reader.run();
    // Every request holds a slot until it is answered.
    drop(reader.slots.take(MAX_REQUESTS));
    // The writer has a sender of its own; this ends it.
    let _ = reader.answers.send(Message::Last);
    drop(reader);
    // A writer that panicked has already said so.
    let _ = writer.join();
    result
}

enum Message<B> {
    Answer(Answer<B>),
    Last,
}

/// What the writer needs to answer a request.
struct Answer<B> {
    cookie: u64,
    error: Option<u32>,
    data: Vec<B>,
    /// Which of the data's bytes the client asked for: how many come before, and how many there are.
    window: (usize, usize),
    written: u64,
    /// What was written must be made to last before the client hears of it.
    flush: bool,
    /// Given back when the answer is on its way.
    _slot: Share,
    _memory: Vec<Share>,
}

/// A request in progress: its transfers end in any order.
struct Progress<B>(Mutex<State<B>>);

struct State<B> {
    /// Transfers that have not ended, and one for the reader while it still makes some.
    pending: usize,
    parts: Vec<Option<B>>,
    keep: bool,
    answer: Option<(Answer<B>, Sender<Message<B>>)>,
}

impl<B: Buffer> Progress<B> {
    fn new(answer: Answer<B>, answers: &Sender<Message<B>>, keep: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            pending: 1,
            parts: Vec::new(),
            keep,
            answer: Some((answer, answers.clone())),
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits one more transfer. Its memory is held until the request is answered.
    fn submit<D: Disk<Buffer = B>>(
        self: &Arc<Self>,
        disk: &D,
        op: Op,
        block: u64,
        blocks: u32,
        buffer: Option<B>,
        memory: Option<Share>,
    ) {
        let part = {
            let mut state = self.state();
            state.pending += 1;
            state.parts.push(None);
            state.parts.len() - 1
        };
        let this = Arc::clone(self);
        let done = Box::new(move |result: Result<(), IoError>, buffer: Option<B>| {
            let mut state = this.state();
            if state.keep {
                state.parts[part] = buffer;
                if let (Some((answer, _)), Some(share)) = (&mut state.answer, memory) {
                    answer._memory.push(share);
                }
            }
            if let Err(error) = result {
                state.fail(errno(error));
            }
            state.finish();
        });
        disk.submit(Io {
            op,
            block,
            blocks,
            buffer,
            done,
        });
    }
}

impl<B> State<B> {
    fn fail(&mut self, error: u32) {
        if let Some((answer, _)) = &mut self.answer {
            answer.error.get_or_insert(error);
        }
    }

    /// One thing less to wait for; the last one sends the answer.
    fn finish(&mut self) {
        self.pending -= 1;
        if self.pending == 0
            && let Some((mut answer, answers)) = self.answer.take()
        {
            answer.data = self.parts.drain(..).flatten().collect();
            // The writer lives as long as a slot is taken.
            let _ = answers.send(Message::Answer(answer));
        }
    }
}

struct Reader<'a, D: Disk> {
    input: BufReader<Stream>,
    disk: &'a Arc<D>,
    memory: &'a Budget,
    partial_writes: &'a PartialWrites,
    slots: Budget,
    answers: Sender<Message<D::Buffer>>,
}

impl<D: Disk> Reader<'_, D> {
    fn run(&mut self) -> Result<(), Ended> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(());
            };
            let request = Request::parse(&header)
                .ok_or_else(|| Ended::Protocol("something that is not a request".to_owned()))?;
            if request.command == CMD_DISC {
                return Ok(());
            }
            self.request(request)?;
        }
    }

    /// The next request's bytes; `None` when the client has closed the connection. It may be silent between requests for
    /// as long as it likes.
    fn header(&mut self) -> Result<Option<[u8; Request::SIZE]>, Ended> {
        let mut bytes = [0; Request::SIZE];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Ended::Vanished),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if filled == 0 && error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(bytes))
    }

    fn request(&mut self, request: Request) -> Result<(), Ended> {
        let writes = request.command == CMD_WRITE;
        if writes && request.length > MAX_PAYLOAD {
            return Err(Ended::Protocol(format!(
                "a write of {} bytes",
                request.length
            )));
        }
        let answer = Answer {
            cookie: request.cookie,
            error: None,
            data: Vec::new(),
            window: (0, request.length as usize),
            written: 0,
            flush: request.flags & FLAG_FUA != 0 && request.command != CMD_READ,
            _slot: self.slots.take(1),
            _memory: Vec::new(),
        };
        let progress = Progress::new(answer, &self.answers, request.command == CMD_READ);
        let result = match self.check(&request) {
            Err(error) => {
                progress.state().fail(error);
                if writes {
                    self.skip(request.length)
                } else {
                    Ok(())
                }
            }
            Ok(span) if span.is_whole(self.disk.info().block_size) => {
                self.start(&request, span.block, span.blocks, &progress)
            }
            Ok(span) => self.start_partial(&request, span, &progress),
        };
        progress.state().finish();
        result
    }

    /// The blocks that it is about, or the error that the client gets.
    fn check(&self, request: &Request) -> Result<Span, u32> {
        let info = self.disk.info();
        let known = match request.command {
            CMD_WRITE_ZEROES => FLAG_FUA | FLAG_NO_HOLE,
            CMD_READ | CMD_WRITE | CMD_FLUSH | CMD_TRIM => FLAG_FUA,
            _ => return Err(EINVAL),
        };
        if request.flags & !known != 0 {
            return Err(EINVAL);
        }
        if request.command == CMD_FLUSH {
            return if request.offset == 0 && request.length == 0 {
                Ok(Span::new(0, 0, info.block_size))
            } else {
                Err(EINVAL)
            };
        }
        if info.read_only && request.command != CMD_READ {
            return Err(EPERM);
        }
        if request.length == 0 || request.command == CMD_READ && request.length > MAX_PAYLOAD {
            return Err(EINVAL);
        }
        match request.offset.checked_add(u64::from(request.length)) {
            Some(end) if end <= info.bytes() => {
                Ok(Span::new(request.offset, request.length, info.block_size))
            }
            _ if request.command == CMD_READ => Err(EINVAL),
            _ => Err(ENOSPC),
        }
    }

    /// Makes the transfers of a request that was checked.
    fn start(
        &mut self,
        request: &Request,
        block: u64,
        blocks: u32,
        progress: &Arc<Progress<D::Buffer>>,
    ) -> Result<(), Ended> {
        let disk = &**self.disk;
        let info = disk.info();
        let most = (info.max_transfer / info.block_size).max(1);
        match request.command {
            CMD_FLUSH => progress.submit(disk, Op::Flush, 0, 0, None, None),
            CMD_TRIM if info.unmap => progress.submit(disk, Op::Unmap, block, blocks, None, None),
            // Trimming is advice.
            CMD_TRIM => {}
            CMD_READ => {
                // All of it at once: a client that holds a part must not wait for another part.
                let bytes = blocks as usize * info.block_size as usize;
                let mut whole = Some(self.memory.take(bytes));
                for (at, count) in split(block, blocks, most) {
                    match disk.buffer(count as usize * info.block_size as usize) {
                        Some(buffer) => {
                            progress.submit(disk, Op::Read, at, count, Some(buffer), whole.take())
                        }
                        None => progress.state().fail(ENOMEM),
                    }
                }
            }
            _ => {
                for (at, count) in split(block, blocks, most) {
                    let bytes = count as usize * info.block_size as usize;
                    let share = self.memory.take(bytes);
                    let Some(mut buffer) = disk.buffer(bytes) else {
                        progress.state().fail(ENOMEM);
                        if request.command == CMD_WRITE {
                            self.skip(bytes as u32)?;
                        }
                        continue;
                    };
                    for piece in buffer.pieces() {
                        if request.command == CMD_WRITE {
                            if let Err(error) = self.input.read_exact(piece) {
                                progress.state().fail(EIO);
                                return Err(error.into());
                            }
                        } else {
                            piece.fill(0);
                        }
                    }
                    if let Some((answer, _)) = &mut progress.state().answer {
                        answer.written += bytes as u64;
                    }
                    progress.submit(disk, Op::Write, at, count, Some(buffer), Some(share));
                }
            }
        }
        Ok(())
    }

    /// Does, or begins, a request that does not take all of its blocks.
    fn start_partial(
        &mut self,
        request: &Request,
        span: Span,
        progress: &Arc<Progress<D::Buffer>>,
    ) -> Result<(), Ended> {
        let disk = &**self.disk;
        let info = disk.info();
        let most = (info.max_transfer / info.block_size).max(1);
        match request.command {
            CMD_READ => {
                if let Some((answer, _)) = &mut progress.state().answer {
                    answer.window.0 = span.skip as usize;
                }
                self.start(request, span.block, span.blocks, progress)
            }
            CMD_TRIM => match span.inner(info.block_size) {
                Some((block, blocks)) => self.start(request, block, blocks, progress),
                None => Ok(()),
            },
            _ => {
                let length = if request.command == CMD_WRITE {
                    request.length as usize
                } else {
                    0
                };
                let _memory = self
                    .memory
                    .take(length + partial::transfer_bytes(info, most.min(span.blocks)));
                let mut data = vec![0; length];
                if let Err(error) = self.input.read_exact(&mut data) {
                    progress.state().fail(EIO);
                    return Err(error.into());
                }
                // This request has one slot: with the others, every request before it has been answered.
                let _alone = self.slots.take(MAX_REQUESTS - 1);
                let data = (request.command == CMD_WRITE).then_some(&data[..]);
                match partial::write(disk, self.partial_writes, span, data, most) {
                    Ok(()) => {
                        if let Some((answer, _)) = &mut progress.state().answer {
                            answer.written += u64::from(request.length);
                        }
                    }
                    Err(error) => progress.state().fail(errno(error)),
                }
                Ok(())
            }
        }
    }

    /// Reads past the data of a write that is refused, so that the next request is found.
    fn skip(&mut self, bytes: u32) -> Result<(), Ended> {
        let mut data = (&mut self.input).take(u64::from(bytes));
        if io::copy(&mut data, &mut io::sink())? < u64::from(bytes) {
            return Err(Ended::Vanished);
        }
        Ok(())
    }
}

/// Ranges of at most `most` blocks.
pub(super) fn split(block: u64, blocks: u32, most: u32) -> impl Iterator<Item = (u64, u32)> {
    (0..blocks)
        .step_by(most as usize)
        .map(move |done| (block + u64::from(done), most.min(blocks - done)))
}

fn errno(error: IoError) -> u32 {
    match error {
        IoError::OutOfRange => EINVAL,
        IoError::ReadOnly => EPERM,
        IoError::Gone => ESHUTDOWN,
        IoError::NoMemory => ENOMEM,
        IoError::Failed => EIO,
    }
}

struct Writer<D> {
    disk: Arc<D>,
    counters: Arc<Counters>,
}

impl<D: Disk> Writer<D> {
    /// Answers until the last message. A socket that fails ends the reader, and every further answer is dropped.
    fn run(
        &self,
        stream: Stream,
        queue: &Receiver<Message<D::Buffer>>,
        again: Sender<Message<D::Buffer>>,
    ) {
        let mut output = Some(BufWriter::with_capacity(64 * 1024, stream));
        loop {
            let message = match queue.try_recv() {
                Ok(message) => message,
                Err(_) => {
                    // Nothing more to say for now: what is buffered goes out.
                    let result = output.as_mut().map_or(Ok(()), Write::flush);
                    give_up_on_error(&mut output, result);
                    let Ok(message) = queue.recv() else { return };
                    message
                }
            };
            let Message::Answer(mut answer) = message else {
                if let Some(mut output) = output {
                    // The client that said goodbye may not wait for this.
                    let _ = output.flush();
                }
                return;
            };
            if answer.flush && answer.error.is_none() {
                answer.flush = false;
                let progress = Progress::new(answer, &again, false);
                progress.submit(&*self.disk, Op::Flush, 0, 0, None, None);
                progress.state().finish();
                continue;
            }
            let result = output
                .as_mut()
                .map_or(Ok(()), |output| self.send(output, &mut answer));
            give_up_on_error(&mut output, result);
        }
    }

    fn send(&self, output: &mut impl Write, answer: &mut Answer<D::Buffer>) -> io::Result<()> {
        let counters = &self.counters;
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if answer.error.is_some() {
            counters.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            counters
                .written
                .fetch_add(answer.written, Ordering::Relaxed);
        }
        output.write_all(&simple_reply(answer.error.unwrap_or(0), answer.cookie))?;
        if answer.error.is_some() {
            return Ok(());
        }
        let (mut skip, mut left) = answer.window;
        for buffer in &mut answer.data {
            for piece in buffer.pieces() {
                let from = skip.min(piece.len());
                let piece = &piece[from..piece.len().min(from.saturating_add(left))];
                skip -= from;
                left -= piece.len();
                output.write_all(piece)?;
                counters
                    .read
                    .fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

fn give_up_on_error(output: &mut Option<BufWriter<Stream>>, result: io::Result<()>) {
    if result.is_err()
        && let Some(output) = output.take()
    {
        // Without its buffer: what it holds cannot be sent.
        let (stream, _) = output.into_parts();
        let _ = stream.shutdown(Shutdown::Both);
    }
}
