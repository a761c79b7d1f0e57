//! Room 2 CA, leaf certificates, agent-side and upstream TLS.
