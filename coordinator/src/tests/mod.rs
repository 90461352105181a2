mod cluster;
mod linked;
mod memory;
mod store;
