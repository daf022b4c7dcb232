//! A deployer that dies at any write, and an abort at any moment.
