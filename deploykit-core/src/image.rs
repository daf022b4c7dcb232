//! Images: as people name them, and pinned to what they mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest repository name with its registry that the distribution specification allows.
const LONGEST_NAME: usize = 255;
/// The longest tag that it allows.
const LONGEST_TAG: usize = 128;

/// An image as people write it: `registry:5000/team/web:1.4`, `web@sha256:…`, `sha256:…` for one known by its id only.
///
/// The grammar is that of the OCI distribution specification's reference. A name without a registry is left as it is:
/// which registry it means is the provider's business.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Reads an image reference.
    ///
    /// # Errors
    /// `Invalid`, saying which part is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(format!("image {text:?} cannot be read: {why}"))
                .with_hint("write it as registry/repository:tag or repository@sha256:digest")
        };
        if text.starts_with("sha256:") {
            let digest = text.parse::<Digest>().map_err(|e| wrong(e.message().to_owned()))?;
            return Ok(Self { name: String::new(), tag: None, digest: Some(digest) });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|e| wrong(e.message().to_owned()))?))
            }
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(last..).and_then(|end| end.split_once(':')) {
            Some((end, tag)) => (rest.get(..last + end.len()).unwrap_or(rest), Some(tag)),
            None => (rest, None),
        };
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(wrong("the name is empty or longer than 255 characters".into()));
        }
        let mut components = name.split('/').peekable();
        let first = components.peek().copied().unwrap_or_default();
        if name.contains('/') && is_host(first) {
            components.next();
        }
        for component in components {
            if !is_component(component) {
                return Err(wrong(format!(
                    "{component:?} is not lower case letters, digits and single separators"
                )));
            }
        }
        if let Some(tag) = tag {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            let start = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if !start || tag.len() > LONGEST_TAG || !tag.chars().all(good) {
                return Err(wrong(format!("tag {tag:?} is not 1 to 128 letters, digits, _ . -")));
            }
        }
        Ok(Self { name: name.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// The same repository under `tag`, without a digest.
    ///
    /// # Errors
    /// `Invalid` for a tag that the grammar does not allow, and for an image known by its id only.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        let parsed = Self::parse(&format!("{}:{tag}", self.name))?;
        // A tag with a separator would have been read as something else.
        if parsed.tag() == Some(tag) && parsed.digest.is_none() {
            return Ok(parsed);
        }
        Err(Error::invalid(format!("tag {tag:?} is not 1 to 128 letters, digits, _ . -"))
            .with_hint("write the tag alone, such as 1.4"))
    }

    /// Registry and repository, without tag and digest; empty for an image known by its id only.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry's host, where the reference names one.
    pub fn registry(&self) -> Option<&str> {
        self.name.split_once('/').map(|(first, _)| first).filter(|first| is_host(first))
    }

    /// The tag, where one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one is written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

/// A first component is a host when it could not be a repository's: it has a dot or a port, or is `localhost`.
fn is_host(component: &str) -> bool {
    let (host, port) = component.split_once(':').map_or((component, None), |(h, p)| (h, Some(p)));
    let looks = component.contains(['.', ':']) || component == "localhost";
    let host_good = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    looks && host_good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
        && text
            .split(alphanumeric)
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) if self.name.is_empty() => write!(f, "{digest}"),
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ImageRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageRef {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

/// A SHA-256 digest, `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from(<[u8; 32]>::from(sha2::Sha256::digest(bytes)))
    }

    /// `sha256:` and 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }
}

/// A SHA-256 hash that was computed elsewhere.
impl From<[u8; 32]> for Digest {
    fn from(hash: [u8; 32]) -> Self {
        use std::fmt::Write as _;
        let mut text = String::from("sha256:");
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("digest {text:?} is not sha256: and 64 hexadecimal digits")))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// An image pinned to what it meant when it was resolved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PinnedImage {
    /// As it was asked for, kept for people.
    pub asked: ImageRef,
    /// What it is: the manifest's digest, or the image's id if it was never pushed.
    pub digest: Digest,
    /// Whether `digest` is the id of an image that no registry has.
    pub local: bool,
}

impl PinnedImage {
    /// An image of a registry, by its manifest's digest.
    pub fn pushed(asked: ImageRef, digest: Digest) -> Self {
        Self { asked, digest, local: false }
    }

    /// An image that only the orchestrator's machine has, by its id.
    pub fn local(asked: ImageRef, id: Digest) -> Self {
        Self { asked, digest: id, local: true }
    }

    /// Its repository under each of `tags`; for backends that tag.
    ///
    /// # Errors
    /// `Invalid` for a tag that cannot be read, for no tags, and for an image that is in no repository.
    pub fn tagged(&self, tags: &[&str]) -> Result<Vec<ImageRef>> {
        if self.local || self.asked.name().is_empty() {
            return Err(Error::invalid(format!("image {self} is in no registry"))
                .with_hint("publish it; publishing sets several tags at once"));
        }
        if tags.is_empty() {
            return Err(Error::invalid(format!("tags: none is given for image {self}"))
                .with_hint("give at least one, such as \"latest\""));
        }
        let named = tags.iter().map(|tag| self.asked.with_tag(tag));
        named.map(|named| named.map_err(|error| error.within("tags"))).collect()
    }

    /// What to give an engine: `repository@sha256:…`, or the id of a local image.
    pub fn pull_name(&self) -> String {
        if self.local || self.asked.name().is_empty() {
            self.digest.to_string()
        } else {
            format!("{}@{}", self.asked.name(), self.digest)
        }
    }
}

/// A reference that keeps the name for people and means this very image, as [`Change::to`](crate::Change::to) takes it.
impl From<&PinnedImage> for String {
    fn from(image: &PinnedImage) -> Self {
        if image.local {
            return image.digest.to_string();
        }
        ImageRef { digest: Some(image.digest.clone()), ..image.asked.clone() }.to_string()
    }
}

/// As people name it, with the first digits of what it is: `web:1.4 (3f2a9c01b2d4)`.
impl fmt::Display for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.asked.name();
        if name.is_empty() {
            return f.write_str(self.digest.short());
        }
        f.write_str(name)?;
        if let Some(tag) = self.asked.tag() {
            write!(f, ":{tag}")?;
        }
        write!(f, " ({})", self.digest.short())
    }
}

impl fmt::Debug for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_the_specification_allows_read_back_as_written() {
        let digest = Digest::of(b"x");
        for text in [
            "web",
            "web:1.4",
            "team/web",
            "localhost/web",
            "127.0.0.1:5000/team/web:1_4-x",
            "registry.example.org/a/b__c/d-e--f",
            &format!("web@{digest}"),
            &format!("host:5000/web:1@{digest}"),
            digest.as_str(),
        ] {
            assert_eq!(ImageRef::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn references_that_it_forbids_are_refused() {
        for text in [
            "",
            ":1",
            "Web",
            "web:",
            "web:-1",
            "a//b",
            "web@sha256:12",
            "web/",
            "a___b",
            "we b",
            "/web",
        ] {
            assert!(ImageRef::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_port_is_not_taken_for_a_tag() {
        let image = ImageRef::parse("localhost:5000/web").unwrap();
        assert_eq!((image.registry(), image.tag()), (Some("localhost:5000"), None));
    }
}
