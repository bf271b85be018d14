//! Frames that are given and taken by hand.

use std::collections::VecDeque;

use super::{Accepts, Frame, Wire};

/// An interface's frames, each way.
pub(super) struct Hand<'a> {
    pub(super) to_guest: &'a mut VecDeque<Frame>,
    pub(super) from_guest: &'a mut Vec<Frame>,
}

impl Wire for Hand<'_> {
    fn receive(&mut self, frame: &mut Frame) -> bool {
        match self.to_guest.pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }

    fn transmit(&mut self, frame: &mut Frame) {
        self.from_guest.push(frame.clone());
    }

    fn queue(&mut self, _: &Frame, _: usize) -> usize {
        // One after another, counted by what is left.
        self.to_guest.len()
    }

    fn connected(&mut self, _: Accepts) {}

    fn idle(&mut self) {}
}
