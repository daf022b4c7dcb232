//! The stores of the core.

use std::sync::Arc;

use deploykit_core::{DirectoryStore, MemoryStore, Store, async_trait};
use deploykit_testing::conformance::StoreHarness;
use deploykit_testing::store_conformance;
use tempfile::TempDir;

#[derive(Default)]
struct Memory(MemoryStore);

#[async_trait]
impl StoreHarness for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}

struct Directory(TempDir);

#[async_trait]
impl StoreHarness for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(DirectoryStore::open(self.0.path()).unwrap())
    }
}

mod memory {
    super::store_conformance! {
        #[tokio::test(start_paused = true)]
        super::Memory::default()
    }
}

mod directory {
    super::store_conformance! {
        #[tokio::test(start_paused = true)]
        super::Directory(tempfile::tempdir().unwrap())
    }
}
