mod clocks;
mod devices;
mod helpers;
mod histories;
mod leases;
mod membership;
mod sets;
mod topology;
