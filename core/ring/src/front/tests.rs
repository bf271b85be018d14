//! A second ring end, written from ring.h, plays the backend: honest in some tests, lying in others.

use super::*;
use proptest::prelude::*;

const WORDS: usize = 28;
type Ring<'a> = FrontRing<&'a [AtomicU32], WORDS>;

fn page() -> Vec<AtomicU32> {
    (0..1024).map(|_| AtomicU32::new(0xdead_beef)).collect()
}

/// An honest backend that answers with the request's own words.
struct Backend<'a> {
    page: &'a [AtomicU32],
    entries: u32,
    req_cons: u32,
    rsp_prod: u32,
}

impl Backend<'_> {
    /// Takes the next request, if it sees one.
    fn take(&mut self) -> Option<[u32; WORDS]> {
        if self.page[0].load(Ordering::Acquire) == self.req_cons {
            return None;
        }
        let base = 16 + (self.req_cons & (self.entries - 1)) as usize * WORDS;
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(std::array::from_fn(|i| {
            self.page[base + i].load(Ordering::Relaxed)
        }))
    }

    /// Goes to sleep; whether there is work after all.
    fn sleep(&mut self) -> bool {
        self.page[1].store(self.req_cons.wrapping_add(1), Ordering::SeqCst);
        self.page[0].load(Ordering::SeqCst) != self.req_cons
    }

    /// Writes and publishes a response; whether the frontend wants an event.
    fn answer(&mut self, response: &[u32; WORDS]) -> bool {
        let base = 16 + (self.rsp_prod & (self.entries - 1)) as usize * WORDS;
        for (i, word) in response.iter().enumerate() {
            self.page[base + i].store(*word, Ordering::Relaxed);
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        self.page[2].store(self.rsp_prod, Ordering::SeqCst);
        self.page[3].load(Ordering::SeqCst) == self.rsp_prod
    }
}

fn request(n: u32) -> [u32; WORDS] {
    std::array::from_fn(|i| n.wrapping_mul(31).wrapping_add(i as u32))
}

#[test]
fn capacities_are_those_of_the_block_protocol() {
    for (order, entries) in [(0, 32), (1, 64), (2, 128), (3, 256), (4, 512)] {
        assert_eq!(capacity(4096 << order, 112), entries);
    }
    assert_eq!(capacity(64, 112), 0);
    assert_eq!(capacity(176, 112), 1);
    assert_eq!(capacity(4096, 0), 0);
}

#[test]
fn a_new_ring_leaves_nothing_of_what_the_memory_held() {
    let page = page();
    let ring = Ring::new(&page[..]).unwrap();
    assert_eq!(ring.free(), 32);
    let words: Vec<u32> = page.iter().map(|w| w.load(Ordering::Relaxed)).collect();
    assert_eq!(words[..4], [0, 1, 0, 1]);
    assert!(words[4..].iter().all(|w| *w == 0));
}

#[test]
fn a_full_ring_takes_no_more() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    for n in 0..32 {
        ring.push(&request(n)).unwrap();
    }
    assert_eq!(ring.push(&request(32)), Err(Full));
}

#[test]
fn requests_are_invisible_until_published() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    ring.push(&request(1)).unwrap();
    assert_eq!(page[0].load(Ordering::Relaxed), 0);
    assert!(ring.publish());
    assert_eq!(page[0].load(Ordering::Relaxed), 1);
}

#[test]
fn a_batch_notifies_once_and_an_awake_backend_not_at_all() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    ring.push(&request(1)).unwrap();
    ring.push(&request(2)).unwrap();
    assert!(ring.publish());
    assert!(!ring.publish(), "nothing new");
    ring.push(&request(3)).unwrap();
    assert!(!ring.publish(), "the backend has not asked again");
}

#[test]
fn a_response_without_a_request_breaks_the_ring() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    page[2].store(1, Ordering::Relaxed);
    let broken = Broken::ResponseIndex {
        claimed: 1,
        consumed: 0,
        requested: 0,
    };
    assert_eq!(ring.pop(), Err(broken));
    page[2].store(0, Ordering::Relaxed);
    assert_eq!(ring.pop(), Err(broken), "and it stays broken");
    assert_eq!(ring.sleep(), Err(broken));
}

#[test]
fn a_response_index_that_moves_back_breaks_the_ring() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    for n in 0..4 {
        ring.push(&request(n)).unwrap();
    }
    assert!(ring.publish());
    page[2].store(3, Ordering::Relaxed);
    assert!(ring.pop().unwrap().is_some());
    page[2].store(2, Ordering::Relaxed);
    assert!(ring.sleep().is_err());
}

#[test]
fn a_request_pushed_but_not_published_cannot_be_answered() {
    let page = page();
    let mut ring = Ring::new(&page[..]).unwrap();
    ring.push(&request(1)).unwrap();
    page[2].store(1, Ordering::Relaxed);
    assert!(ring.pop().is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Publish,
    Pop,
    Receive,
    BackendTake,
    BackendAnswer,
    BackendSleep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        2 => Just(Step::Publish),
        4 => Just(Step::Pop),
        1 => Just(Step::Receive),
        4 => Just(Step::BackendTake),
        4 => Just(Step::BackendAnswer),
        1 => Just(Step::BackendSleep),
    ]
}

proptest! {
    /// Any order of honest steps, across the wrap of the 32-bit indices: everything arrives once and in order, and
    /// neither side sleeps while there is something for it without an event on its way.
    #[test]
    fn everything_arrives_once_and_no_event_is_lost(before_wrap in 0u32..70, steps in proptest::collection::vec(step(), 0..600)) {
        let page = page();
        let start = 0u32.wrapping_sub(before_wrap);
        let mut ring = Ring::starting_at(&page[..], start).unwrap();
        let mut backend = Backend { page: &page, entries: 32, req_cons: start, rsp_prod: start };
        let (mut pushed, mut taken, mut answered, mut popped) = (0u32, 0u32, 0u32, 0u32);
        let mut held = std::collections::VecDeque::new();
        // Both sides begin asleep with their first event asked for; an event wakes.
        let (mut front_asleep, mut back_asleep) = (true, true);
        for step in steps {
            match step {
                Step::Push => match ring.push(&request(pushed)) {
                    Ok(()) => pushed += 1,
                    Err(Full) => prop_assert_eq!(pushed - popped, 32),
                },
                Step::Publish => if ring.publish() { back_asleep = false },
                Step::Pop if !front_asleep => {
                    if let Some(response) = ring.pop().unwrap() {
                        prop_assert_eq!(response, request(popped));
                        popped += 1;
                    }
                }
                Step::Receive if !front_asleep => match ring.receive().unwrap() {
                    Some(response) => {
                        prop_assert_eq!(response, request(popped));
                        popped += 1;
                    }
                    None => front_asleep = true,
                },
                Step::BackendTake if !back_asleep => {
                    if let Some(taken_request) = backend.take() {
                        prop_assert_eq!(taken_request, request(taken));
                        taken += 1;
                        held.push_back(taken_request);
                    }
                }
                Step::BackendAnswer => if let Some(response) = held.pop_front() {
                    answered += 1;
                    if backend.answer(&response) { front_asleep = false }
                },
                Step::BackendSleep if !back_asleep => back_asleep = !backend.sleep(),
                _ => {}
            }
            prop_assert!(!(front_asleep && answered > popped), "the frontend sleeps over a response");
            let shown = page[0].load(Ordering::Relaxed).wrapping_sub(start);
            prop_assert!(!(back_asleep && shown > taken), "the backend sleeps over a request");
        }
    }

    /// Whatever value `rsp_prod` has: either that many requests were outstanding, or the ring is broken; no response
    /// is read beyond it and no slot outside the page is touched.
    #[test]
    fn an_impossible_response_index_is_caught(start in any::<u32>(), published in 0u32..=32, claimed in any::<u32>(), near in 0u32..80) {
        for claimed in [claimed, start.wrapping_add(near), start.wrapping_sub(near)] {
            let page = page();
            let mut ring = Ring::starting_at(&page[..], start).unwrap();
            for n in 0..published { ring.push(&request(n)).unwrap(); }
            let _ = ring.publish();
            page[2].store(claimed, Ordering::Relaxed);
            let possible = claimed.wrapping_sub(start) <= published;
            let mut read = 0;
            let result = loop {
                match ring.pop() { Ok(Some(_)) => read += 1, Ok(None) => break true, Err(_) => break false }
            };
            prop_assert_eq!(result, possible);
            prop_assert_eq!(read, if possible { claimed.wrapping_sub(start) } else { 0 });
            prop_assert!(ring.free() <= 32);
        }
    }

    /// A page that changes under our hands, at any word, never panics.
    #[test]
    fn a_scribbled_page_is_survived(scribbles in proptest::collection::vec((0usize..1024, any::<u32>(), 0u8..4), 0..200)) {
        let page = page();
        let mut ring = Ring::new(&page[..]).unwrap();
        for (index, value, action) in scribbles {
            page[index].store(value, Ordering::Relaxed);
            page[(value % 4) as usize].store(value >> 24, Ordering::Relaxed);
            match action {
                0 => { let _ = ring.push(&request(value)); }
                1 => { let _ = ring.publish(); }
                2 => { let _ = ring.pop(); }
                _ => { let _ = ring.sleep(); }
            }
            prop_assert!(ring.free() <= 32 && ring.outstanding() <= 32);
        }
    }
}
