//! Provisional.
pub mod config;
pub mod secret;
pub mod forge;
pub mod deliveries;
