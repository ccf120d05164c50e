"""The audit trail: what of the applied log is remembered, and what this manager refused."""

from swarmd.manager.audit.audit_log import AuditLog

__all__ = ["AuditLog"]
