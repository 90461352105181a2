//! openraft's own test suite of log stores and state machines, on our disk format.

use super::log::LogStore;
use super::machine::Machine;
use super::types::Types;
use crate::store::{Owner, Store, Writer};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use ringfleet_env::Env;

struct Builder {
    env: Env,
}

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner { cluster: "test".into(), name: "c1".into() };
        let (store, loaded) = Store::open(&self.env.disk(), folder.path(), &owner, 1).unwrap();
        let (writer, task) = Writer::start(&self.env, store);
        task.detach();
        let log = LogStore::new(&loaded, writer.clone()).unwrap();
        let machine = Machine::new(&self.env, &loaded, writer).unwrap();
        Ok((folder, log, machine))
    }
}

#[test]
fn log_and_state_machine_pass_openrafts_suite() {
    Env::run_tokio(2, |env| async move { Suite::test_all(Builder { env }).await }).unwrap().unwrap();
}
