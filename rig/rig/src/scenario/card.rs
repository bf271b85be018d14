//! What happens to network cards in the scenario of theirs.
//!
//! ```text
//!   frames both ways ─▶ pause, suspension, sleep, unplug, no carrier, requests ─▶ ready again: none is lost ─┐
//!        ▲                                                                                                   ├─▶ end
//!        └───────────────────────────────────── a few times ─────────────────────────────────────────────────┘
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use backends::net::Netback;
use ndis_host::{Control, OidRequest};
use nt_host::pnp;
use nt_sys::ndis::{
    OID_802_3_MULTICAST_LIST, OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_STATISTICS, OID_GEN_XMIT_OK,
};
use xen_model::toolstack::VifSpec;

use super::{Exchange, Stage, script};
use crate::{exchange, faults::play::LIBXL_PATIENCE, port_nic, wait};

/// The card that things happen to.
const FIRST: u32 = 0;
/// How long cards stay ready that are.
const STEADY: Duration = Duration::from_secs(1);
/// Frames of each round.
const ROUND: u64 = 60;
/// Versions of NDIS, by their minor numbers: what the drivers know, and what lies between.
const VERSIONS: [u8; 5] = [30, 50, 60, 83, 85];

impl Stage {
    /// Plugs one card in, or two, and has frames go over them as soon as they are there.
    pub(super) fn plug_cards(&mut self) {
        let version = VERSIONS[self.random.below(VERSIONS.len() as u64) as usize];
        ndis_host::set_version(version);
        let dom0 = self.machine.dom0().clone();
        let (driver, nics) = Netback::new();
        nics.offer(exchange::draw_offer(&mut self.random));
        dom0.add_driver(Box::new(driver));
        if let Some(play) = self.machine.play() {
            play.concern_card(FIRST, nics.clone());
        }
        for number in 0..1 + self.random.below(2) as u32 {
            let seed = self.random.number();
            let mut card = Exchange::new(number, &dom0, &nics, self.cpus, seed);
            if self.faulty {
                card.let_go();
            }
            card.more(ROUND);
            self.cards.push(card);
            dom0.attach_vif(VifSpec::new(number));
        }
        self.nics = Some(nics);
    }

    /// Waits until frames can go over all cards, unless a fault keeps them away: whether they can.
    fn cards_ready(&mut self, what: &str) -> Result<bool, String> {
        // What was ordered may not have been heard of yet: they are ready when they stay so.
        let mut since = None;
        let steady = self.unless_failed(what, |view| {
            if !pnp::settled() || !view.cards.iter().all(Exchange::is_ready) {
                since = None;
                return false;
            }
            wait::now() - *since.get_or_insert_with(wait::now) > STEADY
        })?;
        Ok(steady)
    }

    /// Waits until all frames are where they are to be.
    pub(super) fn finish_cards(&mut self) -> Result<(), String> {
        self.must("the frames arrive, and the lists come back", |view| {
            view.cards.iter().all(Exchange::is_done)
        })
    }
}

/// Plays it.
pub(super) fn play(stage: &mut Stage) -> Result<(), String> {
    stage.cards_ready("the cards come up")?;
    for _ in 0..3 {
        stage.pause(4000)?;
        disturb(stage)?;
        if !stage.cards_ready("the cards work again")? {
            return Ok(());
        }
        for card in &mut stage.cards {
            card.calm();
            card.more(ROUND);
        }
    }
    match stage.random.below(3) {
        0 => Ok(()),
        _ => script::unload(stage),
    }
}

/// Something happens to the first card, or to all.
fn disturb(stage: &mut Stage) -> Result<(), String> {
    let what = stage.random.below(8);
    if what != 0 {
        stage.cards.iter_mut().for_each(Exchange::upset);
    }
    match what {
        0 => requests(stage),
        1 => rest(stage),
        2 | 3 => script::suspend_now(stage),
        4 => script::sleep(stage),
        5 | 6 => replug(stage),
        _ => no_carrier(stage),
    }
}

/// The system asks this and that of the adapter.
fn requests(stage: &mut Stage) -> Result<(), String> {
    stage.say("requests");
    let Some(adapter) = stage.cards.first().and_then(Exchange::adapter) else {
        return Ok(());
    };
    let groups = [[0x33, 0x33, 0, 0, 0, 1], [0x01, 0x00, 0x5E, 0, 0, 1]];
    let groups = &groups[..stage.random.below(3) as usize];
    let asked = [
        OidRequest::query(OID_GEN_STATISTICS, 512),
        OidRequest::set(OID_802_3_MULTICAST_LIST, groups.as_flattened()),
        OidRequest::query(OID_GEN_XMIT_OK, 8),
        OidRequest::query(OID_GEN_CURRENT_PACKET_FILTER, 4),
    ];
    let left = Arc::new(AtomicUsize::new(asked.len()));
    for request in asked {
        let left = Arc::clone(&left);
        adapter.request(
            request,
            Box::new(move |_| _ = left.fetch_sub(1, Ordering::AcqRel)),
        );
    }
    stage.must("requests are answered", |_| {
        left.load(Ordering::Acquire) == 0
    })
}

/// The adapter pauses and goes on.
fn rest(stage: &mut Stage) -> Result<(), String> {
    stage.say("pause");
    for what in [Control::Pause, Control::Restart] {
        let Some(adapter) = stage.cards.first().and_then(Exchange::adapter) else {
            return Ok(());
        };
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        // One that is gone, or has been paused otherwise, does not.
        adapter.control(what, Box::new(move |_| told.store(true, Ordering::Release)));
        stage.must("the adapter pauses, or goes on", |_| {
            done.load(Ordering::Acquire)
        })?;
        stage.pause(2000)?;
    }
    Ok(())
}

/// The card goes, and another comes in its place.
fn replug(stage: &mut Stage) -> Result<(), String> {
    stage.say("unplug");
    let dom0 = stage.machine.dom0().clone();
    let is_there = || {
        let mut all = port_nic::all().into_iter();
        all.any(|it| it.instance().ends_with(&format!(r"\{FIRST}")))
    };
    let in_order = stage.random.below(3) != 0;
    if in_order {
        dom0.detach_vif(FIRST);
        stage.until(LIBXL_PATIENCE, |_| dom0.finish_vif_detach(FIRST, false))?;
    }
    dom0.finish_vif_detach(FIRST, true);
    // Now and then before the guest has made much of it.
    if stage.random.below(4) != 0 {
        stage.must("the card is gone", |_| !is_there() && pnp::settled())?;
    }
    stage.pause(2000)?;
    stage.say("plug in");
    if let Some(nics) = &stage.nics {
        nics.offer(exchange::draw_offer(&mut stage.random));
    }
    dom0.attach_vif(VifSpec::new(FIRST));
    Ok(())
}

/// The toolstack takes the carrier away, and gives it back.
fn no_carrier(stage: &mut Stage) -> Result<(), String> {
    let dom0 = stage.machine.dom0().clone();
    let key = format!("{}/disconnect", VifSpec::new(FIRST).frontend_path());
    for value in ["1", "0"] {
        stage.say(if value == "1" {
            "no carrier"
        } else {
            "carrier"
        });
        dom0.store().write(&key, value);
        dom0.bell().ring();
        stage.pause(3000)?;
    }
    Ok(())
}
