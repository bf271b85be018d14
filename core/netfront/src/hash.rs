//! The hash that chooses a packet's queue: how it is configured, how the backend is told, which queue it names.
//!
//! ```text
//!   Config ──▶ Program: algorithm, mapping size, mapping, key, types ──▶ control ring
//!                       └ a failure: algorithm none, and the failure
//! ```
//!
//! A backend without a control ring spreads packets as it likes, which is what a configuration without an algorithm asks
//! for; so is one that does not know the request.

use crate::control::Failure;
use crate::{Gref, Hash};
pub use packet::flow::HashTypes;
pub use packet::toeplitz::{KEY, Key};
use xen_abi::netif::{
    self, CTRL_GET_HASH_FLAGS, CTRL_SET_HASH_ALGORITHM, CTRL_SET_HASH_FLAGS, CTRL_SET_HASH_KEY,
    CTRL_SET_HASH_MAPPING, CTRL_SET_HASH_MAPPING_SIZE, HASH_KEY_SIZE, HASH_TYPES,
};

/// Entries that a mapping can have.
pub const MAX_MAPPING: usize = 128;
/// Queues that a mapping can name.
const MAX_QUEUES: u32 = 255;

const _: () = assert!(KEY == HASH_KEY_SIZE);

/// Which queue each value of hash modulo length goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    queues: [u8; MAX_MAPPING],
    length: usize,
}

/// Why there is no mapping for a table of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMapping {
    /// More than [`MAX_MAPPING`] entries.
    TooLong,
    /// More different processors than queues.
    TooManyProcessors,
}

impl Mapping {
    /// No entries: hash modulo number of queues.
    pub const MODULAR: Self = Self {
        queues: [0; MAX_MAPPING],
        length: 0,
    };

    /// Gives the processors of a table queues 0, 1, 2, … in the order in which they first appear.
    pub fn of_processors<C: PartialEq>(processors: &[C], queues: u32) -> Result<Self, BadMapping> {
        let mut mapping = Self::MODULAR;
        let mut used = 0u8;
        for (index, processor) in processors.iter().enumerate() {
            let earlier = processors
                .iter()
                .take(index)
                .position(|other| other == processor);
            let queue = match earlier.and_then(|earlier| mapping.queues.get(earlier)) {
                Some(queue) => *queue,
                None if u32::from(used) < queues.min(MAX_QUEUES) => {
                    used += 1;
                    used - 1
                }
                None => return Err(BadMapping::TooManyProcessors),
            };
            *mapping.queues.get_mut(index).ok_or(BadMapping::TooLong)? = queue;
        }
        mapping.length = processors.len();
        Ok(mapping)
    }

    /// Its entries.
    pub fn queues(&self) -> &[u8] {
        self.queues.get(..self.length).unwrap_or(&[])
    }
}

/// What the hash is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toeplitz {
    /// Of which packets.
    pub types: HashTypes,
    /// The key.
    pub key: Key,
    /// The mapping.
    pub mapping: Mapping,
}

/// What the backend shall do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Config {
    /// Spread packets as it likes.
    #[default]
    None,
    /// Hash them.
    Toeplitz(Toeplitz),
}

impl Config {
    /// The hash that the backend gave a packet, if it is one that was asked for.
    pub fn accept(&self, hash: Option<Hash>) -> Option<Hash> {
        let Config::Toeplitz(toeplitz) = self else {
            return None;
        };
        hash.filter(|hash| toeplitz.types.contains(hash.kind))
    }

    /// The queue, of `queues`, for packets with this Toeplitz hash.
    pub fn queue(&self, hash: u32, queues: u32) -> u32 {
        let mapping = match self {
            Config::None => &[][..],
            Config::Toeplitz(toeplitz) => toeplitz.mapping.queues(),
        };
        let queue = match hash.checked_rem(mapping.len() as u32) {
            Some(index) => mapping.get(index as usize).copied().map_or(0, u32::from),
            None => hash,
        };
        queue.checked_rem(queues).unwrap_or(0)
    }
}

/// A request of the control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// `CTRL_*`.
    pub kind: u16,
    data: [u32; 3],
    /// What the granted page begins with, if the request grants one.
    pub payload: Option<Payload>,
}

/// The content of a granted page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The key.
    Key(Key),
    /// The mapping.
    Mapping(Mapping),
}

impl Payload {
    /// Its bytes, at most 512.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let (key, queues) = match self {
            Payload::Key(key) => (&key.0[..], &[][..]),
            Payload::Mapping(mapping) => (&[][..], mapping.queues()),
        };
        let queues = queues
            .iter()
            .flat_map(|queue| u32::from(*queue).to_le_bytes());
        key.iter().copied().chain(queues)
    }
}

impl Message {
    /// Asks for the types that the backend can hash; [`types`] reads the answer.
    pub const QUERY_TYPES: Self = Self::new(CTRL_GET_HASH_FLAGS, [0; 3]);

    /// Chooses the Toeplitz hash. A backend tells its types only after that.
    pub const TOEPLITZ: Self = Self::new(
        CTRL_SET_HASH_ALGORITHM,
        [netif::HASH_ALGORITHM_TOEPLITZ as u32, 0, 0],
    );

    const fn new(kind: u16, data: [u32; 3]) -> Self {
        Self {
            kind,
            data,
            payload: None,
        }
    }

    /// The words that go with it; `page` is the granted page with the payload, if it has one.
    pub fn data(&self, page: Gref) -> [u32; 3] {
        let [first, second, third] = self.data;
        match self.payload {
            Some(_) => [page.0, second, third],
            None => [first, second, third],
        }
    }
}

/// The types in an answer to [`Message::QUERY_TYPES`], as far as they are known.
pub fn types(answer: u32) -> HashTypes {
    HashTypes(answer & HASH_TYPES)
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, then say what was answered.
    Send(Message),
    /// The backend does what was configured.
    Done,
    /// It does not, and spreads packets as it likes, if it still can.
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Algorithm,
    MappingSize,
    Mapping,
    Key,
    Types,
    /// Undoes what was done, because of this.
    Undo(Failure),
    End,
}

/// The way to tell a backend of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    config: Config,
    state: State,
}

impl Program {
    /// Begins; `control_ring`: there is one.
    pub fn start(config: &Config, control_ring: bool) -> (Self, Step) {
        let program = Self {
            config: *config,
            state: State::Algorithm,
        };
        let step = match (control_ring, config) {
            (true, _) => program.step(),
            (false, Config::None) => Step::Done,
            (false, Config::Toeplitz(_)) => Step::Failed(Failure::NotSupported),
        };
        (program, step)
    }

    /// Goes on with the answer to what was sent last.
    pub fn answered(&mut self, answer: Result<u32, Failure>) -> Step {
        let next = match (self.state, answer) {
            (State::Undo(failure), _) => {
                self.state = State::End;
                return Step::Failed(failure);
            }
            (State::Algorithm, Err(failure)) => {
                self.state = State::End;
                // Without an algorithm there is none to refuse; all else leaves the backend in an unknown state.
                return match (self.config, failure) {
                    (Config::None, Failure::NotSupported) => Step::Done,
                    _ => Step::Failed(failure),
                };
            }
            (_, Err(failure)) => State::Undo(failure),
            (State::Algorithm, Ok(_)) if self.config == Config::None => State::End,
            (State::Algorithm, Ok(_)) => State::MappingSize,
            // A mapping without entries has nothing to send.
            (State::MappingSize, Ok(_)) if self.mapping().queues().is_empty() => State::Key,
            (State::MappingSize, Ok(_)) => State::Mapping,
            (State::Mapping, Ok(_)) => State::Key,
            (State::Key, Ok(_)) => State::Types,
            (State::Types | State::End, Ok(_)) => State::End,
        };
        self.state = next;
        self.step()
    }

    fn mapping(&self) -> Mapping {
        match self.config {
            Config::None => Mapping::MODULAR,
            Config::Toeplitz(toeplitz) => toeplitz.mapping,
        }
    }

    fn step(&self) -> Step {
        let algorithm =
            |algorithm: u8| Message::new(CTRL_SET_HASH_ALGORITHM, [u32::from(algorithm), 0, 0]);
        let Config::Toeplitz(toeplitz) = self.config else {
            return match self.state {
                State::Algorithm => Step::Send(algorithm(netif::HASH_ALGORITHM_NONE)),
                _ => Step::Done,
            };
        };
        let entries = toeplitz.mapping.queues().len() as u32;
        Step::Send(match self.state {
            State::Algorithm => algorithm(netif::HASH_ALGORITHM_TOEPLITZ),
            State::MappingSize => Message::new(CTRL_SET_HASH_MAPPING_SIZE, [entries, 0, 0]),
            State::Mapping => Message {
                payload: Some(Payload::Mapping(toeplitz.mapping)),
                ..Message::new(CTRL_SET_HASH_MAPPING, [0, entries, 0])
            },
            State::Key => Message {
                payload: Some(Payload::Key(toeplitz.key)),
                ..Message::new(CTRL_SET_HASH_KEY, [0, HASH_KEY_SIZE as u32, 0])
            },
            State::Types => Message::new(CTRL_SET_HASH_FLAGS, [types(toeplitz.types.0).0, 0, 0]),
            State::Undo(_) => algorithm(netif::HASH_ALGORITHM_NONE),
            State::End => return Step::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashType;
    use proptest::prelude::*;

    fn toeplitz(mapping: Mapping) -> Config {
        Config::Toeplitz(Toeplitz {
            types: HashTypes(3),
            key: Key([7; KEY]),
            mapping,
        })
    }

    /// Runs a program against answers; the types of the requests, their words, and the end.
    fn run(
        config: &Config,
        control_ring: bool,
        mut answer: impl FnMut(u16) -> Result<u32, Failure>,
    ) -> (Vec<(u16, [u32; 3])>, Step) {
        let (mut program, mut step) = Program::start(config, control_ring);
        let mut sent = vec![];
        while let Step::Send(message) = step {
            sent.push((message.kind, message.data(Gref(9))));
            assert!(sent.len() < 10, "no end");
            step = program.answered(answer(message.kind));
        }
        (sent, step)
    }

    #[test]
    fn a_backend_is_told_everything_in_the_order_it_needs() {
        let mapping = Mapping::of_processors(&[4, 6, 4, 6], 2).unwrap();
        let (sent, end) = run(&toeplitz(mapping), true, |_| Ok(0));
        let all = vec![
            (7, [1, 0, 0]),
            (5, [4, 0, 0]),
            (6, [9, 4, 0]),
            (3, [9, 40, 0]),
            (2, [3, 0, 0]),
        ];
        assert_eq!((sent, end), (all, Step::Done));
    }

    #[test]
    fn a_modular_mapping_has_no_page() {
        let (sent, _) = run(&toeplitz(Mapping::MODULAR), true, |_| Ok(0));
        let kinds: Vec<u16> = sent.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [7, 5, 3, 2]);
    }

    #[test]
    fn without_an_algorithm_it_needs_no_control_ring_and_no_backend_that_knows_hashes() {
        assert_eq!(run(&Config::None, false, |_| Ok(0)), (vec![], Step::Done));
        let none = vec![(7, [0, 0, 0])];
        assert_eq!(
            run(&Config::None, true, |_| Ok(0)),
            (none.clone(), Step::Done)
        );
        let unknown = |_| Err(Failure::NotSupported);
        assert_eq!(
            run(&Config::None, true, unknown),
            (none.clone(), Step::Done)
        );
        let late = |_| Err(Failure::TimedOut);
        assert_eq!(
            run(&Config::None, true, late),
            (none, Step::Failed(Failure::TimedOut))
        );
    }

    #[test]
    fn a_hash_needs_a_control_ring() {
        assert_eq!(
            run(&toeplitz(Mapping::MODULAR), false, |_| Ok(0)),
            (vec![], Step::Failed(Failure::NotSupported))
        );
    }

    #[test]
    fn what_fails_half_way_is_undone() {
        let mapping = Mapping::of_processors(&[1, 2], 2).unwrap();
        for failing in [5, 6, 3, 2] {
            let (sent, end) = run(&toeplitz(mapping), true, |kind| {
                if kind == failing {
                    Err(Failure::InvalidParameter)
                } else {
                    Ok(0)
                }
            });
            assert_eq!(end, Step::Failed(Failure::InvalidParameter));
            assert_eq!(sent.last(), Some(&(7, [0, 0, 0])), "after {failing}");
        }
        let (sent, end) = run(&toeplitz(mapping), true, |_| Err(Failure::NotSupported));
        assert_eq!((sent.len(), end), (1, Step::Failed(Failure::NotSupported)));
    }

    #[test]
    fn pages_hold_the_key_as_it_is_and_queues_as_little_endian_words() {
        let mapping = Mapping::of_processors(&["b", "a", "b"], 2).unwrap();
        let bytes: Vec<u8> = Payload::Mapping(mapping).bytes().collect();
        assert_eq!(bytes, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let key = core::array::from_fn(|i| 200 + i as u8);
        assert!(Payload::Key(Key(key)).bytes().eq(key));
    }

    #[test]
    fn processors_get_queues_in_the_order_of_their_appearance() {
        let queues = |processors: &[u8], queues| {
            Mapping::of_processors(processors, queues).map(|mapping| mapping.queues().to_vec())
        };
        assert_eq!(queues(&[7, 3, 7, 5, 3], 3), Ok(vec![0, 1, 0, 2, 1]));
        assert_eq!(queues(&[7, 3, 5], 2), Err(BadMapping::TooManyProcessors));
        assert_eq!(queues(&[0; 129], 2), Err(BadMapping::TooLong));
        assert_eq!(queues(&[0; 128], 1), Ok(vec![0; 128]));
        assert_eq!(queues(&[], 1), Ok(vec![]));
    }

    #[test]
    fn only_a_hash_that_was_asked_for_is_taken() {
        let config = toeplitz(Mapping::MODULAR);
        let hash = |kind| Some(Hash { kind, value: 1 });
        assert_eq!(
            config.accept(hash(HashType::TcpIpv4)),
            hash(HashType::TcpIpv4)
        );
        assert_eq!(config.accept(hash(HashType::Ipv6)), None);
        assert_eq!(config.accept(None), None);
        assert_eq!(Config::None.accept(hash(HashType::Ipv4)), None);
    }

    #[test]
    fn a_hash_names_a_queue_through_the_mapping() {
        let mapping = Mapping::of_processors(&[0, 1, 1], 2).unwrap();
        let config = toeplitz(mapping);
        let queues: Vec<u32> = (0..6).map(|hash| config.queue(hash, 2)).collect();
        assert_eq!(queues, [0, 1, 1, 0, 1, 1]);
        assert_eq!(toeplitz(Mapping::MODULAR).queue(7, 4), 3);
        assert_eq!(Config::None.queue(7, 4), 3);
        assert_eq!(config.queue(1, 1), 0, "fewer queues than when it was made");
        assert_eq!(config.queue(1, 0), 0);
    }

    proptest! {
        #[test]
        fn every_program_ends(answers in proptest::collection::vec(0u32..4, 10), modular in any::<bool>()) {
            let mapping = if modular { Mapping::MODULAR } else { Mapping::of_processors(&[1, 2], 2).unwrap() };
            let mut answers = answers.into_iter();
            let (_, end) = run(&toeplitz(mapping), true, |_| match answers.next() {
                Some(0) => Err(Failure::TimedOut),
                Some(1) => Err(Failure::NotSupported),
                _ => Ok(0),
            });
            prop_assert!(matches!(end, Step::Done | Step::Failed(_)));
        }

        #[test]
        fn queues_stay_in_range(hash in any::<u32>(), queues in 0u32..9) {
            prop_assert!(Config::None.queue(hash, queues) < queues.max(1));
        }
    }
}
