"""Who may do what: certificates, tokens and their rights, the audit log, what one client may hold."""
