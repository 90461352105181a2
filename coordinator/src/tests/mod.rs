mod cluster;
mod linked;
mod members;
mod memory;
mod store;
