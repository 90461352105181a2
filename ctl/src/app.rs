//! What every verb is given: the linked actor types, the global flags, the environment, and a way to the cluster.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringfleet_actor::TypeDescriptor;
use ringfleet_client::{CallError, Client, ClientConfig};
use ringfleet_env::{Env, Instant};
use ringfleet_link::Identity;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, RefusalCode, SetInfo};

use crate::args::GlobalArgs;
use crate::config::{self, ConfigFile, Context};
use crate::error::{CtlError, CtlResult, chain};

/// What every verb is given.
#[derive(Debug)]
pub struct App {
    /// The actor types that this binary carries.
    pub types: Vec<&'static TypeDescriptor>,
    /// The global flags.
    pub global: GlobalArgs,
    /// Time, tasks, sockets.
    pub env: Env,
    /// The clients that the verb has made.
    clients: Mutex<Vec<Client>>,
}

/// How long telling the peers that a verb is done may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(20);

impl App {
    /// For one verb.
    pub fn new(types: Vec<&'static TypeDescriptor>, global: GlobalArgs, env: Env) -> Self {
        Self { types, global, env, clients: Mutex::default() }
    }

    /// Tells the peers of all clients that the verb is done, so that they need not wait for it.
    pub async fn close(&self) {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for client in clients {
            client.close(GOODBYE_LIMIT).await;
        }
    }

    /// Where the contexts are.
    pub fn config_path(&self) -> CtlResult<PathBuf> {
        self.global.config.clone().map_or_else(config::default_path, Ok)
    }

    /// The context that the flags choose.
    pub fn context(&self) -> CtlResult<Context> {
        let path = self.config_path()?;
        ConfigFile::load(&path)?.context(self.global.context.as_deref(), &path)
    }

    /// A way to the cluster of the context. Nothing is sent yet.
    pub fn cluster(&self) -> CtlResult<Cluster> {
        let cluster = Cluster::of(&self.env, &self.context()?, self.global.deadline)?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(cluster.client.clone());
        Ok(cluster)
    }
}

/// A way to a cluster, as somebody, until a deadline.
#[derive(Debug)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The environment.
    pub env: Env,
    /// Until when the verb may take.
    pub deadline: Instant,
}

impl Cluster {
    /// A way to the cluster of `context` for `patience` from now.
    pub fn of(env: &Env, context: &Context, patience: Duration) -> CtlResult<Self> {
        let attempt = format!("using context {}", context.name);
        let (credentials, ca) = (&context.credentials, &context.cluster.ca);
        let identity = Identity::load_files(&*env.disk(), &credentials.certificate, &credentials.key, ca)
            .map_err(|error| CtlError::usage(&attempt, chain(&error)))?;
        let config = ClientConfig::new(context.cluster.coordinators.clone(), identity);
        let client = Client::new(env, config).map_err(|error| CtlError::failed(attempt, chain(&error)))?;
        Ok(Self { client, env: env.clone(), deadline: env.now() + patience })
    }

    /// What is left of the verb's time.
    pub fn time_left(&self) -> Duration {
        self.deadline - self.env.now()
    }

    /// The set of this name; `None` if there is none. `attempt` says what for.
    pub async fn set(&self, attempt: &str, name: &str) -> CtlResult<Option<SetInfo>> {
        let verb = AdminVerb::DescribeSet { name: name.to_owned() };
        match self.client.call(verb, self.time_left()).await {
            Ok(AdminAnswer::SetDetail(detail)) => Ok(Some(detail.info)),
            Ok(other) => Err(unexpected(attempt, &other)),
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::UnknownSet => Ok(None),
            Err(error) => Err(call_error(attempt, &error)),
        }
    }

    /// Asks the coordinator. `attempt` says what for.
    pub async fn call(&self, attempt: &str, verb: AdminVerb) -> CtlResult<AdminAnswer> {
        self.client.call(verb, self.time_left()).await.map_err(|error| call_error(attempt, &error))
    }
}

/// The line and exit code of a failed call.
pub fn call_error(attempt: &str, error: &CallError) -> CtlError {
    match error {
        CallError::Refused(refusal) if refusal.code == RefusalCode::NotAllowed => {
            let hint = "use a context whose credentials have another role";
            CtlError::refused(attempt, format!("{}; {hint}", refusal.message))
        }
        CallError::Refused(refusal) => CtlError::refused(attempt, &refusal.message),
        CallError::Identity(_) => CtlError::refused(attempt, chain(error)),
        CallError::Local(_) => CtlError::failed(attempt, chain(error)),
        CallError::Unreachable { .. } | CallError::Unavailable { .. } | CallError::Unknown { .. } => {
            CtlError::unreachable(attempt, chain(error))
        }
    }
}

/// An answer of another kind than was asked for: the coordinator is of another version.
pub fn unexpected(attempt: &str, answer: &AdminAnswer) -> CtlError {
    let name = format!("{answer:?}");
    let name = name.split(['(', ' ', '{']).next().unwrap_or("").to_owned();
    CtlError::failed(attempt, format!("the coordinator answered something else ({name})"))
}
