mod clocks;
mod helpers;
mod histories;
mod leases;
mod membership;
mod sets;
