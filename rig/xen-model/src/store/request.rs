//! Requests on the wire: parsing, doing, answering. docs/misc/xenstore.txt; C xenstored's answers to malformed ones.

use xen_abi::DomId;
use xen_abi::xs_wire::*;
use zerocopy::IntoBytes;

use super::perms::{Permission, Permissions};
use super::transaction::Transaction;
use super::tree::View;
use super::{ConnectionId, Store, domain_path, path};

type Answer = Result<Vec<u8>, XsError>;

/// A message: header and payload.
pub(super) fn message(kind: u32, req_id: u32, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        req_id,
        tx_id,
        len: payload.len() as u32,
    };
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(payload);
    out
}

/// Payload of a plain success.
fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

fn error_name(error: XsError) -> &'static str {
    XsError::NAMES
        .iter()
        .find(|(e, _)| *e == error)
        .map_or("EINVAL", |(_, name)| name)
}

/// The strings of a payload; every one must end with a NUL.
fn strings(payload: &[u8]) -> Result<Vec<&[u8]>, XsError> {
    let body = payload.strip_suffix(&[0]).ok_or(XsError::Einval)?;
    Ok(body.split(|b| *b == 0).collect())
}

fn one(payload: &[u8]) -> Result<&[u8], XsError> {
    match strings(payload)?.as_slice() {
        [only] => Ok(only),
        _ => Err(XsError::Einval),
    }
}

fn two(payload: &[u8]) -> Result<(&[u8], &[u8]), XsError> {
    match strings(payload)?.as_slice() {
        [first, second] => Ok((first, second)),
        _ => Err(XsError::Einval),
    }
}

fn number(text: &[u8]) -> Result<u64, XsError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or(XsError::Einval)
}

impl Store {
    /// Carries out one request of a connection with a ring; replies and events are queued on connections.
    pub(super) fn request(&mut self, id: ConnectionId, header: Header, payload: &[u8]) {
        let answer = self.dispatch(id, &header, payload);
        trace::emit(trace::Class::Xen, || {
            let path = payload.split(|byte| *byte == 0).next().unwrap_or_default();
            trace::Event::Store {
                operation: u64::from(header.kind),
                error: u64::from(answer.is_err()),
                path: std::str::from_utf8(path).unwrap_or("?"),
            }
        });
        let body = match answer {
            Ok(body) if body.len() > PAYLOAD_MAX => {
                return self.refuse(id, header, XsError::E2big);
            }
            Ok(body) => body,
            Err(error) => return self.refuse(id, header, error),
        };
        self.reply(id, header.kind, header, &body);
        if header.kind == XS_WATCH {
            self.fire_first();
        }
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, id: ConnectionId, header: Header, error: XsError) {
        let body = [error_name(error).as_bytes(), &[0]].concat();
        self.reply(id, XS_ERROR, header, &body);
    }

    fn reply(&mut self, id: ConnectionId, kind: u32, header: Header, body: &[u8]) {
        if let Some(c) = self.connections.get_mut(&id) {
            c.out
                .push_back(message(kind, header.req_id, header.tx_id, body));
        }
    }

    fn dispatch(&mut self, id: ConnectionId, header: &Header, payload: &[u8]) -> Answer {
        let dom = self.connections.get(&id).ok_or(XsError::Einval)?.dom;
        match header.kind {
            XS_READ | XS_DIRECTORY | XS_DIRECTORY_PART | XS_GET_PERMS | XS_WRITE | XS_MKDIR
            | XS_RM | XS_SET_PERMS => self.node_request(id, dom, header, payload),
            XS_WATCH => {
                let (path, token) = two(payload)?;
                self.add_watch(id, path, token)?;
                ok()
            }
            XS_UNWATCH => {
                let (path, token) = two(payload)?;
                self.remove_watch(id, path, token)?;
                ok()
            }
            XS_RESET_WATCHES => {
                self.reset_connection(id);
                ok()
            }
            XS_TRANSACTION_START => self.transaction_start(id, dom, header.tx_id),
            XS_TRANSACTION_END => {
                let commit = match payload {
                    b"T\0" => true,
                    b"F\0" => false,
                    _ => return Err(XsError::Einval),
                };
                self.transaction_end(id, header.tx_id, commit)
            }
            XS_GET_DOMAIN_PATH => {
                let dom = u16::try_from(number(one(payload)?)?).map_err(|_| XsError::Einval)?;
                Ok([domain_path(DomId(dom)).as_bytes(), &[0]].concat())
            }
            XS_IS_DOMAIN_INTRODUCED => {
                let dom = u16::try_from(number(one(payload)?)?).map_err(|_| XsError::Einval)?;
                Ok(if self.introduced.contains(&DomId(dom)) {
                    b"T\0"
                } else {
                    b"F\0"
                }
                .to_vec())
            }
            XS_DEBUG | XS_INTRODUCE | XS_RELEASE | XS_RESUME | XS_SET_TARGET => {
                Err(XsError::Eacces)
            }
            _ => Err(XsError::Enosys),
        }
    }

    fn node_request(
        &mut self,
        id: ConnectionId,
        dom: DomId,
        header: &Header,
        payload: &[u8],
    ) -> Answer {
        let nul = payload
            .iter()
            .position(|b| *b == 0)
            .ok_or(XsError::Einval)?;
        let (name, rest) = (&payload[..nul], &payload[nul + 1..]);
        let path = path::canonical(dom, name)?;
        let single = || one(payload).map(|_| ());
        self.view(id, dom, header.tx_id, |view| match header.kind {
            XS_READ => {
                single()?;
                Ok(view.read(&path)?.value.clone())
            }
            XS_DIRECTORY => {
                single()?;
                let list: Vec<u8> = child_list(&view.read(&path)?.children);
                if list.len() > PAYLOAD_MAX {
                    Err(XsError::E2big)
                } else {
                    Ok(list)
                }
            }
            XS_DIRECTORY_PART => {
                let offset =
                    usize::try_from(number(two(payload)?.1)?).map_err(|_| XsError::Einval)?;
                let node = view.read(&path)?;
                Ok(directory_part(
                    node.generation,
                    &child_list(&node.children),
                    offset,
                ))
            }
            XS_GET_PERMS => {
                single()?;
                let node = view.read(&path)?;
                Ok(node
                    .perms
                    .list()
                    .iter()
                    .flat_map(|p| [p.to_text().into_bytes(), vec![0]].concat())
                    .collect())
            }
            XS_WRITE => {
                view.write(&path, rest)?;
                ok()
            }
            XS_MKDIR => {
                single()?;
                view.mkdir(&path)?;
                ok()
            }
            XS_RM => {
                single()?;
                view.remove(&path)?;
                ok()
            }
            XS_SET_PERMS => {
                let list = strings(rest)?
                    .into_iter()
                    .map(Permission::parse)
                    .collect::<Result<_, _>>()?;
                view.set_perms(&path, Permissions::new(list)?)?;
                ok()
            }
            _ => Err(XsError::Enosys),
        })
    }

    /// Runs one request on the tree or on a transaction. A request that fails leaves no trace outside a transaction.
    pub(super) fn view<T>(
        &mut self,
        id: ConnectionId,
        dom: DomId,
        tx: u32,
        run: impl FnOnce(&mut View<'_>) -> Result<T, XsError>,
    ) -> Result<T, XsError> {
        let connection = self.connections.get_mut(&id).ok_or(XsError::Einval)?;
        let transaction = match tx {
            0 => None,
            tx => Some(
                connection
                    .transactions
                    .get_mut(&tx)
                    .ok_or(XsError::Enoent)?,
            ),
        };
        let (quota, flavour) = (self.quota, self.flavour);
        let mut view = View {
            tree: &mut self.tree,
            transaction,
            dom,
            quota,
            flavour,
            changes: Vec::new(),
        };
        let result = run(&mut view);
        let View {
            transaction,
            changes,
            ..
        } = view;
        match transaction {
            Some(t) => t.changes.extend(changes),
            None => self.fire(&changes),
        }
        result
    }

    fn transaction_start(&mut self, id: ConnectionId, dom: DomId, tx: u32) -> Answer {
        if tx != 0 {
            return Err(XsError::Ebusy);
        }
        let (quota, flavour) = (self.quota, self.flavour);
        let c = self.connections.get_mut(&id).ok_or(XsError::Einval)?;
        if dom != DomId::DOM0 && c.transactions.len() >= quota.transactions {
            return Err(flavour.quota_error(XsError::Enospc));
        }
        // Ids are not used again at once, and never 0.
        loop {
            c.last_transaction = c.last_transaction.checked_add(1).unwrap_or(1);
            if !c.transactions.contains_key(&c.last_transaction) {
                break;
            }
        }
        c.transactions
            .insert(c.last_transaction, Transaction::default());
        Ok(format!("{}\0", c.last_transaction).into_bytes())
    }

    fn transaction_end(&mut self, id: ConnectionId, tx: u32, commit: bool) -> Answer {
        let c = self.connections.get_mut(&id).ok_or(XsError::Einval)?;
        let transaction = c.transactions.remove(&tx).ok_or(XsError::Enoent)?;
        if commit {
            let changes = transaction.commit(&mut self.tree).ok_or(XsError::Eagain)?;
            self.fire(&changes);
        }
        ok()
    }
}

fn child_list(children: &std::collections::BTreeSet<String>) -> Vec<u8> {
    children.iter().flat_map(|c| c.bytes().chain([0])).collect()
}

/// Generation, then names from `offset` of the list on, as many as fit; an empty name ends the list.
fn directory_part(generation: u64, list: &[u8], offset: usize) -> Vec<u8> {
    let mut out = format!("{generation}\0").into_bytes();
    let rest = list.get(offset..).unwrap_or_default();
    let room = PAYLOAD_MAX - out.len() - 1;
    let fits = match rest.len() <= room {
        true => rest.len(),
        false => rest[..room]
            .iter()
            .rposition(|b| *b == 0)
            .map_or(0, |i| i + 1),
    };
    out.extend_from_slice(&rest[..fits]);
    if fits == rest.len() {
        out.push(0);
    }
    out
}
