//! A library that a program loads at run time -> what it needs, in the object list of that program.
//!
//! Alone it would miss what its process has loaded already.

use std::rc::Rc;

use super::collect::Collector;
use super::list::ObjectList;
use super::object::Object;
use super::problem::ResolveError;
use super::{Circumstances, Linkage, LoaderConfig, Privilege};
use crate::path::{RawPath, RootPath, show};

/// Where a library is loaded.
pub(super) struct Host {
    program: Rc<Object>,
    /// Where the program is in the image.
    path: RootPath,
    circumstances: Circumstances,
    interp: RawPath,
    config: LoaderConfig,
    list: ObjectList,
}

/// What is wrong with a library, in words.
pub(super) type Complaint = String;

impl Collector<'_> {
    /// Returns where the library `object` is loaded, `None` if it needs nobody or is a program; or why it would not load,
    /// in one of `programs` or by itself.
    pub(super) fn check_loadable(
        &self,
        object: &Rc<Object>,
        programs: &[usize],
    ) -> Result<Result<Option<Host>, Complaint>, ResolveError> {
        let elf = &object.elf;
        if elf.is_static() || !elf.is_dynamic {
            return Ok(Ok(None));
        }
        if elf.interp.is_none() {
            return self.host(object, programs);
        }
        let hwcaps = self.cpus(object).pop().unwrap_or_default();
        let circumstances = Circumstances { privilege: Privilege::Plain, hwcaps, loads: Vec::new() };
        match self.resolver.linkage(object, &circumstances) {
            Ok(Linkage::Static) => Ok(Ok(None)),
            Ok(Linkage::Dynamic { list, .. }) => Ok(self.complaint(&list).map_or(Ok(None), Err)),
            Err(ResolveError::Incomplete { problems }) => {
                Ok(Err(problems.first().map(ToString::to_string).unwrap_or_default()))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what the library `object` needs by itself; it is at `to` in the image.
    pub(super) fn take_library_alone(
        &mut self,
        object: &Rc<Object>,
        to: &RootPath,
    ) -> Result<Result<(), Complaint>, ResolveError> {
        Ok(match self.host(object, &[])? {
            Ok(Some(host)) => Ok(self.take_hosted(object, to, host)?),
            Ok(None) => Ok(()),
            Err(complaint) => Err(complaint),
        })
    }

    /// Takes what the library `object` needs when `host` loads it; it is at `to` in the image.
    pub(super) fn take_hosted(
        &mut self,
        object: &Rc<Object>,
        to: &RootPath,
        host: Host,
    ) -> Result<(), ResolveError> {
        let Host { program, path, circumstances, interp, config, list } = host;
        let path = if program.path == object.path { to.clone() } else { path };
        self.take_list(&program, &path, circumstances, (&interp, config), list)
    }

    /// Returns the first of `programs` that can load `object`, or the object itself where none can or none is given;
    /// `None` if it needs nobody.
    fn host(
        &self,
        object: &Rc<Object>,
        programs: &[usize],
    ) -> Result<Result<Option<Host>, Complaint>, ResolveError> {
        let mut complaint = None;
        for at in programs {
            let Some(linked) = self.linked.get(*at) else { continue };
            if linked.object.elf.machine != object.elf.machine || linked.object.elf.class != object.elf.class
            {
                continue;
            }
            let circumstances = Circumstances {
                privilege: Privilege::Plain,
                hwcaps: linked.circumstances.hwcaps.clone(),
                loads: vec![object.path.to_raw()],
            };
            let Linkage::Dynamic { interp, config, list } =
                (match self.resolver.linkage(&linked.object, &circumstances) {
                    Ok(linkage) => linkage,
                    Err(ResolveError::Incomplete { .. }) => continue,
                    Err(error) => return Err(error),
                })
            else {
                continue;
            };
            let is_mapped = list.objects.iter().any(|loaded| loaded.object.path == object.path);
            match self.complaint(&list).filter(|_| is_mapped) {
                None if is_mapped => {
                    let (program, path) = (linked.object.clone(), linked.path.clone());
                    return Ok(Ok(Some(Host { program, path, circumstances, interp, config, list })));
                }
                found => complaint = complaint.or(found),
            }
        }
        let hwcaps = self.cpus(object).pop().unwrap_or_default();
        let circumstances = Circumstances { privilege: Privilege::Plain, hwcaps, loads: Vec::new() };
        Ok(match self.resolver.linkage(object, &circumstances) {
            Ok(Linkage::Static) => Ok(None),
            Ok(Linkage::Dynamic { interp, config, list }) => match self.complaint(&list) {
                Some(alone) => Err(complaint.unwrap_or(alone)),
                None => {
                    let (program, path) = (object.clone(), object.path.clone());
                    Ok(Some(Host { program, path, circumstances, interp, config, list }))
                }
            },
            // A library without needs in a tree without loaders, such as one for another machine.
            Err(ResolveError::Incomplete { .. }) if object.elf.needs.is_empty() => Ok(None),
            Err(ResolveError::Incomplete { problems }) => {
                Err(complaint.or_else(|| problems.first().map(ToString::to_string)).unwrap_or_default())
            }
            Err(error) => return Err(error),
        })
    }

    /// Returns what is missing in `list`, except for libraries that are in the closure anyway: somebody loads them by
    /// path before they are asked for by name.
    fn complaint(&self, list: &ObjectList) -> Option<Complaint> {
        let is_loaded = |soname: &[u8]| {
            self.members.values().any(|(object, _)| {
                object.elf.soname.as_deref() == Some(soname) || object.path.file_name() == soname
            })
        };
        let missing = list.missing.iter().find(|missing| !is_loaded(&missing.soname))?;
        let by = &list.objects[missing.by].object.path;
        Some(format!("`{by}` needs `{}`, which is not in the rootfs", show(&missing.soname)))
    }
}
