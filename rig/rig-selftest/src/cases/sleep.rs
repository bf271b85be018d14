//! The system sleeps and wakes up: what comes to whom, and in which order. Somebody has to put it to sleep; the driver asks
//! for that by a line, which the rig understands.

use crate::child::{self, Child};
use crate::sleep::{self, Step, Who};
use crate::suite::{Finding, Outcome, failed, say};
use crate::support::*;
use crate::wdk::*;

/// POWER_ACTION: PowerActionSleep.
const SLEEP: u32 = 2;

const QUERY: u8 = IRP_MN_QUERY_POWER;
const SET: u8 = IRP_MN_SET_POWER;
const S3: i32 = PowerSystemSleeping3;
const S0: i32 = PowerSystemWorking;

/// Has the system put to sleep, and waits until it is awake.
fn cycle() -> Outcome {
    sleep::forget();
    say(format_args!("sleep"));
    until(
        || Step::system(Who::Root, SET, S0).at().is_some(),
        "a sleep of the system",
    )
    .map_err(|_| Finding::Skipped("nobody put the system to sleep"))?;
    // The device's state follows on its own.
    until(
        || Step::device(Who::Bus, PowerDeviceD0).at().is_some(),
        "D0 after the sleep",
    )
}

/// The place of a step that must have come.
fn at(step: Step, what: &str) -> Result<usize, Finding> {
    step.at()
        .ok_or_else(|| failed(format_args!("{what} did not come")))
}

fn in_order(places: &[usize], what: &str) -> Outcome {
    check!(
        places.is_sorted(),
        "{what}: they came in the order {places:?}"
    );
    Ok(())
}

/// Learn, "Handling IRP_MN_QUERY_POWER for System Power States": the power manager asks first.
fn every_device_is_asked_before_one_is_set() -> Outcome {
    let child = Child::plug(0, child::OWNER)?;
    cycle()?;
    child.unplug()?;
    for who in [Who::Root, Who::Child, Who::Bus] {
        equal!(
            Step::system(who, QUERY, S3).count(),
            1,
            "queries of device {}",
            who as u32
        );
        equal!(
            Step::system(who, SET, S3).count(),
            1,
            "settings of device {}",
            who as u32
        );
        equal!(
            Step::system(who, QUERY, S0).count(),
            0,
            "queries for the working state of device {}",
            who as u32
        );
    }
    let (asked, set) = sleep::last_query_and_first_set();
    check!(asked < set, "a state was set before the last query");
    Ok(())
}

/// Learn, "Power IRPs for the System": to sleep children come before their parents, to wake up parents come first.
fn children_sleep_before_their_parents() -> Outcome {
    let child = Child::plug(0, child::OWNER)?;
    cycle()?;
    child.unplug()?;
    in_order(
        &[
            at(Step::device(Who::Bus, PowerDeviceD3), "D3 at the bus")?,
            at(Step::system(Who::Root, SET, S3), "S3 at the parent")?,
            at(Step::system(Who::Root, SET, S0), "S0 at the parent")?,
            at(Step::system(Who::Child, SET, S0), "S0 at the child")?,
        ],
        "the child's D3, the parent's S3 and S0, the child's S0",
    )
}

/// Learn, "Handling a System Set-Power IRP in a Device Power Policy Owner": system state, then device state, at each end.
fn the_device_state_follows_the_system_state() -> Outcome {
    child::forget();
    let child = Child::plug(0, child::OWNER)?;
    cycle()?;
    let state = read(&child::POWER);
    child.unplug()?;
    in_order(
        &[
            at(Step::system(Who::Child, SET, S3), "S3")?,
            at(Step::system(Who::Bus, SET, S3), "S3 at the bus")?,
            at(Step::device(Who::Child, PowerDeviceD3), "D3")?,
            at(Step::device(Who::Bus, PowerDeviceD3), "D3 at the bus")?,
            at(Step::system(Who::Child, SET, S0), "S0")?,
            at(Step::system(Who::Bus, SET, S0), "S0 at the bus")?,
            at(Step::device(Who::Child, PowerDeviceD0), "D0")?,
            at(Step::device(Who::Bus, PowerDeviceD0), "D0 at the bus")?,
        ],
        "S3, D3, S0 and D0, at the child and at its bus",
    )?;
    // What PoSetPowerState told was the state before, and the new one.
    equal!(
        state,
        (PowerDeviceD3 as u32) << 8 | PowerDeviceD0 as u32,
        "the device's states before and after"
    );
    equal!(read(&child::WRONG_IRQL), 0, "requests above PASSIVE_LEVEL");
    equal!(
        read(&child::WRONG_STATUS),
        0,
        "requests with another status"
    );
    Ok(())
}

/// Learn, IRP_MN_SET_POWER: ShutdownType says what the system is about.
fn the_request_says_why() -> Outcome {
    let child = Child::plug(0, child::OWNER)?;
    cycle()?;
    child.unplug()?;
    equal!(read(&sleep::ACTION), SLEEP, "the action of S3");
    Ok(())
}

/// Learn, "Power IRPs for the System": after a query that failed, the state the system is in is affirmed to those who agreed.
fn a_refused_sleep_does_not_happen() -> Outcome {
    let child = Child::plug(0, child::OWNER | child::REFUSE_POWER)?;
    let sibling = Child::plug(1, child::OWNER)?;
    sleep::forget();
    say(format_args!("sleep"));
    until(
        || Step::system(Who::Child, QUERY, S3).at().is_some(),
        "a query",
    )
    .map_err(|_| Finding::Skipped("nobody put the system to sleep"))?;
    let agreed = Step::system(Who::Sibling, QUERY, S3);
    let affirmed = Step::system(Who::Sibling, SET, S0);
    let outcome = until(
        || agreed.at().is_none() || affirmed.at().is_some(),
        "the working state for who had agreed",
    );
    sibling.unplug()?;
    child.unplug()?;
    outcome?;
    for who in [Who::Root, Who::Child, Who::Bus, Who::Sibling] {
        equal!(
            Step::system(who, SET, S3).count(),
            0,
            "settings of device {}",
            who as u32
        );
    }
    Ok(())
}

group!("sleep":
    every_device_is_asked_before_one_is_set,
    children_sleep_before_their_parents,
    the_device_state_follows_the_system_state,
    the_request_says_why,
    a_refused_sleep_does_not_happen,
);
