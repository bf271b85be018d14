//! Model check of the two halves of the protocol on weakly ordered memory: every interleaving of publish and the
//! backend's going to sleep, and of answering and ours, leaves no one asleep over work.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use ring::FrontRing;

/// One entry of two words: the smallest ring there is.
#[derive(Clone)]
struct Page(Arc<Vec<AtomicU32>>);

impl AsRef<[AtomicU32]> for Page {
    fn as_ref(&self) -> &[AtomicU32] {
        &self.0
    }
}

fn page() -> Page {
    Page(Arc::new((0..18).map(|_| AtomicU32::new(0)).collect()))
}

#[test]
fn a_published_request_is_seen_or_notified() {
    loom::model(|| {
        let page = page();
        let mut ring: FrontRing<Page, 2> = FrontRing::new(page.clone()).unwrap();
        // The backend has handled everything so far and goes to sleep while the frontend publishes.
        page.0[1].store(0, Ordering::Relaxed);
        let backend = thread::spawn({
            let page = page.clone();
            move || {
                page.0[1].store(1, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                let seen = page.0[0].load(Ordering::Acquire) == 1;
                if seen {
                    assert_eq!(
                        page.0[16].load(Ordering::Relaxed),
                        7,
                        "published before written"
                    );
                }
                seen
            }
        });
        ring.push(&[7, 7]).unwrap();
        let notified = ring.publish();
        assert!(backend.join().unwrap() || notified);
    });
}

#[test]
fn an_answer_is_seen_or_brings_an_event() {
    loom::model(|| {
        let page = page();
        let mut ring: FrontRing<Page, 2> = FrontRing::new(page.clone()).unwrap();
        ring.push(&[7, 7]).unwrap();
        let _ = ring.publish();
        // The frontend was awake, so no event is asked for yet.
        page.0[3].store(0, Ordering::Relaxed);
        let backend = thread::spawn({
            let page = page.clone();
            move || {
                page.0[16].store(9, Ordering::Relaxed);
                page.0[2].store(1, Ordering::Release);
                fence(Ordering::SeqCst);
                page.0[3].load(Ordering::Relaxed) == 1
            }
        });
        let response = ring.receive().unwrap();
        if let Some(response) = response {
            assert_eq!(response[0], 9, "published before written");
        }
        let event = backend.join().unwrap();
        assert!(response.is_some() || event);
    });
}
