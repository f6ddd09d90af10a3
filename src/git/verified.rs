//! Objects whose content is hashed when they are read: those that decide what is deployed.
//!
//! gitoxide checks the sums of zlib only. A damaged pack passes these where a delta names another base than it was made
//! for, and what comes of that is another object.

use gix::{
    Object, ObjectId,
    objs::{Data, Kind},
};

/// Read the object `id`. Another content than its id says is an error.
pub fn object(repo: &gix::Repository, id: ObjectId) -> Result<Object<'_>, gix::Error> {
    let object = repo.find_object(id)?;
    Data::new(&object.data, object.kind, id.kind()).verify_checksum(&id)?;
    Ok(object)
}

/// Read the object that the tag `id` leads to, or `id` itself if it is no tag.
pub fn peeled(repo: &gix::Repository, id: ObjectId) -> Result<Object<'_>, gix::Error> {
    let mut object = object(repo, id)?;
    while object.kind == Kind::Tag {
        let target = object.try_to_tag_ref()?.target();
        object = self::object(repo, target)?;
    }
    Ok(object)
}

/// The objects of a repository, for what reads them through gitoxide's trait.
#[derive(Debug)]
pub struct Objects<'r>(pub &'r gix::Repository);

impl gix::objs::Find for Objects<'_> {
    fn try_find<'b>(
        &self,
        id: &gix::hash::oid,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<Data<'b>>, gix::Error> {
        let found = self.0.objects.try_find(id, buffer)?;
        if let Some(data) = &found {
            data.verify_checksum(id)?;
        }
        Ok(found)
    }
}
