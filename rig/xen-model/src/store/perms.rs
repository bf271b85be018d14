//! Who may do what with a node. docs/misc/xenstore.txt, "SET_PERMS".

use xen_abi::DomId;
use xen_abi::xs_wire::XsError;

/// What a domain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// `n`
    None,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

impl Rights {
    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }

    fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }
}

/// One entry of a node's list. In the first, the domain is the owner, and the rights are everybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain.
    pub dom: DomId,
    /// Its rights.
    pub rights: Rights,
}

impl Permission {
    /// An entry.
    pub const fn new(dom: DomId, rights: Rights) -> Self {
        Self { dom, rights }
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, XsError> {
        let (letter, number) = text.split_first().ok_or(XsError::Einval)?;
        let rights = match letter {
            b'n' => Rights::None,
            b'r' => Rights::Read,
            b'w' => Rights::Write,
            b'b' => Rights::Both,
            _ => return Err(XsError::Einval),
        };
        let number = std::str::from_utf8(number)
            .ok()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let dom = number.and_then(|n| n.parse().ok()).ok_or(XsError::Einval)?;
        Ok(Self {
            dom: DomId(dom),
            rights,
        })
    }

    pub(super) fn to_text(self) -> String {
        format!("{}{}", self.rights.letter(), self.dom)
    }
}

/// A node's list, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions(Vec<Permission>);

impl Permissions {
    pub(super) fn new(list: Vec<Permission>) -> Result<Self, XsError> {
        if list.is_empty() {
            Err(XsError::Einval)
        } else {
            Ok(Self(list))
        }
    }

    pub(super) fn list(&self) -> &[Permission] {
        &self.0
    }

    pub(super) fn owner(&self) -> DomId {
        self.0.first().map_or(DomId::DOM0, |p| p.dom)
    }

    /// What a new child made by `dom` gets: the same, but owned by its maker.
    pub(super) fn inherit(&self, dom: DomId) -> Self {
        let mut list = self.0.clone();
        if let (Some(first), true) = (list.first_mut(), dom != DomId::DOM0) {
            first.dom = dom;
        }
        Self(list)
    }

    fn rights(&self, dom: DomId) -> Rights {
        if dom == DomId::DOM0 || dom == self.owner() {
            return Rights::Both;
        }
        let own = self.0.iter().skip(1).find(|p| p.dom == dom);
        own.or(self.0.first()).map_or(Rights::None, |p| p.rights)
    }

    pub(super) fn reads(&self, dom: DomId) -> bool {
        self.rights(dom).reads()
    }

    pub(super) fn writes(&self, dom: DomId) -> bool {
        self.rights(dom).writes()
    }

    pub(super) fn owns(&self, dom: DomId) -> bool {
        dom == DomId::DOM0 || dom == self.owner()
    }
}
