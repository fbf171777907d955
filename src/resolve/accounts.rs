//! Whoever owns something in the closure, or is named -> `/etc/passwd`, `/etc/group` and nsswitch.conf of the image.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::Collector;
use super::place::landing;
use super::problem::{Problem, ResolveError};
use crate::closure::{Access, Cause, Content, Demand};
use crate::explain::Choice;
use crate::formats::accounts::{self, ACCOUNTS_MAX, Group, Password, User};
use crate::formats::{nsswitch, tmpfiles};
use crate::glob::Glob;
use crate::nearest::nearest;
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Eyes, Kind, Node, chase, find, read_file};
use crate::roots::Origin;
use crate::spec::Generated;

const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
const GROUP: &str = "/etc/group";
const NSSWITCH: &str = "/etc/nsswitch.conf";
/// What tells a service manager which directories to make (tmpfiles.d(5)).
const TMPFILES: &str = "/{usr/lib,etc}/tmpfiles.d/*.conf";
/// The number of the user and group who own nothing.
const NOBODY: u32 = 65_534;
/// The users of every image; there is a group of the first one's name, too.
const ALWAYS: [&str; 2] = ["root", "nobody"];
/// The databases of nsswitch.conf that are written, with what the image itself answers.
const DATABASES: [(&str, &str); 4] =
    [("passwd", "files"), ("group", "files"), ("shadow", "files"), ("hosts", "files dns")];

/// The accounts of the source.
#[derive(Default)]
pub(super) struct Accounts {
    pub(super) users: Vec<User>,
    groups: Vec<Group>,
}

impl Accounts {
    /// Returns the user called `name`, or else the first with that number.
    fn user(&self, name: &str) -> Option<&User> {
        let named = self.users.iter().find(|user| user.name == name.as_bytes());
        let number = name.parse().ok();
        named.or_else(|| self.users.iter().find(|user| Some(user.uid) == number))
    }

    /// Returns the group called `name`, or else the first with that number.
    fn group(&self, name: &str) -> Option<&Group> {
        let named = self.groups.iter().find(|group| group.name == name.as_bytes());
        let number = name.parse().ok();
        named.or_else(|| self.groups.iter().find(|group| Some(group.gid) == number))
    }

    /// Returns that there is no user called `name`, which `choice` has.
    fn no_user(&self, name: &str, choice: Option<Choice>) -> Problem {
        unknown("user", name, self.users.iter().map(|user| &user.name), choice)
    }

    /// Returns that there is no group called `name`, which `choice` has.
    fn no_group(&self, name: &str, choice: Option<Choice>) -> Problem {
        unknown("group", name, self.groups.iter().map(|group| &group.name), choice)
    }
}

/// Returns that no account of this `kind` is called `name`, which `choice` has; `known` are the names there are.
fn unknown<'a>(
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a Vec<u8>>,
    choice: Option<Choice>,
) -> Problem {
    let nearest = nearest(name, known.filter_map(|name| str::from_utf8(name).ok())).map(str::to_owned);
    Problem::UnknownAccount { kind, name: name.to_owned(), nearest, choice }
}

/// The accounts of the image, each with who brought it: a path, or a flag.
#[derive(Default)]
struct Needed {
    users: BTreeMap<u32, Vec<Cause>>,
    groups: BTreeMap<u32, Vec<Cause>>,
}

impl Collector<'_> {
    /// Returns the numbers of `user` and of `group`, or of the user's own group; notes a problem if there is no such
    /// user or group.
    pub(super) fn ids(
        &mut self,
        user: &str,
        group: Option<&str>,
    ) -> Result<Option<(u32, u32)>, ResolveError> {
        let accounts = self.accounts()?;
        let known = accounts.user(user);
        let uid = user.parse().ok().or(known.map(|user| user.uid));
        let gid = match group {
            Some(group) => group.parse().ok().or(accounts.group(group).map(|group| group.gid)),
            None => Some(known.map_or(0, |user| user.gid)),
        };
        if uid.is_none() {
            self.problems.push(accounts.no_user(user, None));
        } else if gid.is_none() {
            self.problems.push(accounts.no_group(group.unwrap_or_default(), None));
        }
        Ok(uid.zip(gid))
    }

    /// Makes the empty directory `path` for `user` and `group`, unless the source has something there that is in the
    /// closure; does nothing if there is no such user.
    pub(super) fn make_directory(
        &mut self,
        path: &[u8],
        mode: u32,
        user: &str,
        group: &str,
        cause: Cause,
    ) -> Result<(), ResolveError> {
        let accounts = self.accounts()?;
        let uid = user.parse().ok().or(accounts.user(user).map(|user| user.uid));
        let gid = group.parse().ok().or(accounts.group(group).map(|group| group.gid));
        let gid = gid.or(accounts.user(group).map(|user| user.gid));
        let (Some(uid), Some(gid)) = (uid, gid) else { return Ok(()) };
        // Through the source's links, such as /var/run. What is there already stays what it is.
        let inside = RawPath::new(path).join(b"x");
        let Some(landing) = landing(self.rootfs(), &inside, b"")? else { return Ok(()) };
        let Some(real) = landing.path.parent().filter(|real| self.closure.entry(real).is_none()) else {
            return Ok(());
        };
        self.closure.take(self.rootfs(), Demand { path: landing.above, cause: cause.clone() })?;
        self.closure.put(&real, Node::directory(mode), Content::None, cause);
        self.closure.set_access(&real, Access { mode, uid, gid });
        self.settled.insert(real);
        Ok(())
    }

    /// Writes the users and groups whom the closure needs, and how names are looked up. Call it when every owner is
    /// settled.
    pub(super) fn write_accounts(&mut self) -> Result<(), ResolveError> {
        let selection = self.inputs.selection;
        if selection.generated == Generated::Layout || selection.is_without("user-db") {
            return Ok(());
        }
        let accounts = self.accounts()?;
        let mut needed = Needed::default();
        self.add_named(&accounts, &mut needed)?;
        self.add_owners(&accounts, &mut needed);
        self.make_service_directories(&accounts, &needed)?;
        self.make_homes(&accounts, &needed)?;
        self.make_home(&accounts)?;
        self.add_owners(&accounts, &mut needed);
        let users = self.image_users(&accounts, &mut needed);
        let groups = image_groups(&accounts, &users, &needed);
        let shadow = landing(self.rootfs(), &SHADOW.into(), b"")?;
        let has_shadow = shadow.is_some_and(|landing| self.closure.entry(&landing.path).is_some());
        let password = if has_shadow { Password::Shadow } else { Password::None };
        let passwd: Vec<u8> = users.iter().flat_map(|user| user.line(password)).collect();
        let group: Vec<u8> = groups.iter().flat_map(Group::line).collect();
        let causes = |needed: BTreeMap<u32, Vec<Cause>>| {
            let first = needed.into_values().filter_map(|causes| causes.into_iter().next());
            [Cause::Layout].into_iter().chain(first).collect::<Vec<_>>()
        };
        self.write(PASSWD, passwd, causes(needed.users))?;
        self.write(GROUP, group, causes(needed.groups))?;
        let services = self.name_services()?;
        self.write(NSSWITCH, services, vec![Cause::Layout])
    }

    /// Makes the directories that the service manager of the source makes for users of the image.
    fn make_service_directories(&mut self, accounts: &Accounts, needed: &Needed) -> Result<(), ResolveError> {
        let Ok(glob) = Glob::parse(TMPFILES) else { return Ok(()) };
        for file in find(self.rootfs(), &glob, Eyes::Everybody)?.paths {
            let text = self.source_text(&file, tmpfiles::TMPFILES_MAX)?;
            for line in tmpfiles::directories(&text) {
                let (user, group) = (show(&line.user), show(&line.group));
                let causes = accounts.user(&user).and_then(|user| needed.users.get(&user.uid));
                let Some(cause) = causes.and_then(|causes| causes.first()) else { continue };
                let cause = match cause {
                    Cause::UserDb { by, .. } => Cause::Rule {
                        by: by.clone(),
                        rule: "service-directories".to_owned(),
                        why: format!("`{file}` has the service manager make it for `{user}`"),
                    },
                    flag => flag.clone(),
                };
                self.make_directory(&line.path, line.mode, &user, &group, cause)?;
            }
        }
        Ok(())
    }

    /// Makes the homes of users whose data lie there: those below /var that the source has, empty.
    fn make_homes(&mut self, accounts: &Accounts, needed: &Needed) -> Result<(), ResolveError> {
        for (uid, causes) in &needed.users {
            let Some(user) = accounts.users.iter().find(|user| user.uid == *uid) else { continue };
            let Ok((real, node)) = chase(self.rootfs(), &RawPath::new(user.home.as_slice()))?.end else {
                continue;
            };
            let is_own = node.kind == Kind::Directory && node.uid == *uid && *uid != 0;
            let is_data =
                real.components().next() == Some(b"var".as_slice()) && real.components().count() > 2;
            let Some(cause) = causes.first().filter(|_| is_own && is_data) else { continue };
            let (owner, group) = (node.uid.to_string(), node.gid.to_string());
            self.make_directory(real.as_bytes(), node.mode, &owner, &group, cause.clone())?;
        }
        Ok(())
    }

    /// Adds whoever owns something in the closure.
    fn add_owners(&self, accounts: &Accounts, needed: &mut Needed) {
        for (path, entry) in self.closure.entries() {
            let by = |name: String| Cause::UserDb { by: path.clone(), name };
            let Node { uid, gid, .. } = entry.node;
            if uid != 0 {
                let user = accounts.users.iter().find(|user| user.uid == uid);
                let name = user.map_or_else(|| uid.to_string(), |user| show(&user.name));
                needed.users.entry(uid).or_default().push(by(name));
            }
            if gid != 0 {
                let group = accounts.groups.iter().find(|group| group.gid == gid);
                let name = group.map_or_else(|| gid.to_string(), |group| show(&group.name));
                needed.groups.entry(gid).or_default().push(by(name));
            }
        }
    }

    /// Adds the users of flags, and those whom files name.
    fn add_named(&mut self, accounts: &Accounts, needed: &mut Needed) -> Result<(), ResolveError> {
        let inputs = self.inputs;
        let flags = inputs.selection.users.iter().map(|name| (name.clone(), Choice::new("with-user", name)));
        let run_as = inputs.user.map(|user| (user.user.clone(), Choice::new("user", user)));
        for (name, choice) in flags.chain(run_as) {
            match accounts.user(&name) {
                Some(user) => {
                    let cause = Cause::Root(Origin::Choice(choice));
                    needed.users.entry(user.uid).or_default().push(cause);
                }
                None if name.parse::<u32>().is_ok() || ALWAYS.contains(&name.as_str()) => {}
                None => self.problems.push(accounts.no_user(&name, Some(choice))),
            }
        }
        if let Some(run_as) = inputs.user
            && let Some(name) = &run_as.group
        {
            let choice = Choice::new("user", run_as);
            match accounts.group(name) {
                Some(group) => {
                    let cause = Cause::Root(Origin::Choice(choice));
                    needed.groups.entry(group.gid).or_default().push(cause);
                }
                None if name.parse::<u32>().is_ok() || name == ALWAYS[0] => {}
                None => self.problems.push(accounts.no_group(name, Some(choice))),
            }
        }
        for (name, by) in &self.users {
            let (Some(user), Some(by)) = (accounts.user(&show(name)), by) else { continue };
            let cause = Cause::UserDb { by: by.clone(), name: show(name) };
            if user.uid != 0 && self.closure.entry(by).is_some() {
                needed.users.entry(user.uid).or_default().push(cause);
            }
        }
        Ok(())
    }

    /// Makes the home directory of the user that the image runs as: programs keep what they know there.
    fn make_home(&mut self, accounts: &Accounts) -> Result<(), ResolveError> {
        let Some(run_as) = self.inputs.user else {
            return self.make_directory(b"/root", 0o700, "0", "0", Cause::Layout);
        };
        let Some(user) = accounts.user(&run_as.user).filter(|user| user.uid != 0) else { return Ok(()) };
        let is_path = user.home.starts_with(b"/") && user.home.len() > 1;
        if is_path && !user.home.starts_with(b"/nonexistent") {
            let cause = Cause::Root(Origin::Choice(Choice::new("user", run_as)));
            let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
            self.make_directory(&user.home, 0o755, &uid, &gid, cause)?;
            // A home that is there because of a file in it is still theirs, even if no package says so.
            if let Ok((real, node)) = chase(self.rootfs(), &RawPath::new(user.home.as_slice()))?.end
                && node.kind == Kind::Directory
                && node.uid == user.uid
                && let Some(entry) = self.closure.entry(&real).filter(|_| !self.named.contains(&real))
            {
                let access = Access { mode: entry.node.mode, uid: node.uid, gid: node.gid };
                self.closure.set_access(&real, access);
            }
        }
        Ok(())
    }

    /// Returns where the user of the image is at home, as [`home_of`](Self::home_of) does.
    pub(super) fn home(&self) -> Result<Option<Vec<u8>>, ResolveError> {
        self.home_of(self.inputs.user.map_or(ALWAYS[0], |run_as| &run_as.user))
    }

    /// Returns where `user`, a name or number, is at home in the image; `None` if nobody knows, or if that is no place for
    /// patterns.
    pub(super) fn home_of(&self, user: &str) -> Result<Option<Vec<u8>>, ResolveError> {
        let home = match user {
            "root" | "0" => Some(b"/root".to_vec()),
            user => self.accounts()?.user(user).map(|user| user.home.clone()),
        };
        let Some(home) = home.filter(|home| home.starts_with(b"/")) else { return Ok(None) };
        // Chrooted FTP spells `/srv/./pub`. What `..` leads to is known only on the way.
        let path = RootPath::root().descend(home.split(|byte| *byte == b'/'));
        Ok(path.map(|path| path.as_bytes().to_vec()))
    }

    /// Returns root, nobody, and the needed users that the source has a name for.
    fn image_users(&self, accounts: &Accounts, needed: &mut Needed) -> Vec<User> {
        let account = |name: &str, id: u32, home: &str, shell: &str| User {
            name: name.into(),
            uid: id,
            gid: id,
            home: home.into(),
            shell: shell.into(),
        };
        let mut users = vec![
            account(ALWAYS[0], 0, "/root", "/bin/sh"),
            account(ALWAYS[1], NOBODY, "/nonexistent", "/usr/sbin/nologin"),
        ];
        for uid in needed.users.keys() {
            let own = accounts.users.iter().filter(|user| user.uid == *uid);
            // Two names for one number: the first is the one that files belong to.
            if let Some(user) = own.clone().next()
                && !users.iter().any(|known| known.uid == *uid || known.name == user.name)
            {
                users.push(user.clone());
            }
        }
        for user in &users {
            if let Some(causes) = needed.users.get(&user.uid) {
                needed.groups.entry(user.gid).or_default().extend(causes.iter().cloned());
            }
        }
        users.sort_by_key(|user| user.uid);
        users
    }

    /// Returns the text of nsswitch.conf: files and dns, and the services of `--nss`.
    fn name_services(&mut self) -> Result<Vec<u8>, ResolveError> {
        let asked = &self.inputs.selection.nss;
        let text = self.source_text(&NSSWITCH.into(), nsswitch::NSSWITCH_MAX)?;
        let source = nsswitch::services(&text);
        let mut written = String::new();
        for (database, own) in DATABASES {
            let in_source = |name: &String| {
                let known = source.values().flatten().any(|service| service == name.as_bytes());
                let here = source.get(database.as_bytes()).into_iter().flatten();
                // A service that the source does not call at all is taken for one of users and groups.
                here.into_iter().any(|service| service == name.as_bytes())
                    || !known && matches!(database, "passwd" | "group")
            };
            let more: String =
                asked.iter().filter(|name| in_source(name)).map(|name| format!(" {name}")).collect();
            written.push_str(&format!("{database}: {own}{more}\n"));
        }
        Ok(written.into_bytes())
    }

    /// Returns whether nsswitch.conf of the source calls the name service `name`.
    pub(super) fn is_service(&self, name: &str) -> Result<bool, ResolveError> {
        let text = self.source_text(&NSSWITCH.into(), nsswitch::NSSWITCH_MAX)?;
        Ok(nsswitch::services(&text).values().flatten().any(|service| service == name.as_bytes()))
    }

    fn write(&mut self, path: &str, text: Vec<u8>, causes: Vec<Cause>) -> Result<(), ResolveError> {
        let Some(landing) = landing(self.rootfs(), &RawPath::from(path), b"")? else {
            return Ok(());
        };
        let node = Node::file(text.len() as u64);
        let is_new = self.closure.entry(&landing.path).is_none();
        for cause in causes {
            self.closure.put(&landing.path, node.clone(), Content::Generated(text.clone()), cause);
        }
        if is_new {
            self.settled.insert(landing.path);
        }
        Ok(())
    }

    pub(super) fn accounts(&self) -> Result<Accounts, ResolveError> {
        Ok(Accounts {
            users: accounts::users(&self.source_text(&PASSWD.into(), ACCOUNTS_MAX)?),
            groups: accounts::groups(&self.source_text(&GROUP.into(), ACCOUNTS_MAX)?),
        })
    }

    /// Returns the text of the file that `path` of the source leads to; empty if there is none.
    fn source_text(&self, path: &RawPath, limit: u64) -> Result<Vec<u8>, ResolveError> {
        match chase(self.rootfs(), path)?.end {
            Ok((real, node)) if node.kind == Kind::File => Ok(read_file(self.rootfs(), &real, limit)?),
            _ => Ok(Vec::new()),
        }
    }
}

/// Returns the groups of `users`, those that own something, and those that a user is a member of.
fn image_groups(accounts: &Accounts, users: &[User], needed: &Needed) -> Vec<Group> {
    let names: BTreeSet<&[u8]> = users.iter().map(|user| user.name.as_slice()).collect();
    let is_member = |name: &Vec<u8>| names.contains(name.as_slice()) && name != b"root";
    let template = |name: &str, gid: u32| Group { name: name.into(), gid, members: Vec::new() };
    let of_nobody = accounts.groups.iter().find(|group| group.gid == NOBODY);
    let mut groups = vec![
        template(ALWAYS[0], 0),
        of_nobody.map_or(template("nogroup", NOBODY), |group| Group { members: Vec::new(), ..group.clone() }),
    ];
    for group in &accounts.groups {
        let is_needed = needed.groups.contains_key(&group.gid)
            || users.iter().any(|user| user.gid == group.gid)
            || group.members.iter().any(is_member);
        if is_needed && !groups.iter().any(|known| known.gid == group.gid || known.name == group.name) {
            let members = group.members.iter().filter(|name| is_member(name)).cloned().collect();
            groups.push(Group { members, ..group.clone() });
        }
    }
    groups.sort_by_key(|group| group.gid);
    groups
}
