package gathered

// The metrics that the page, the API and alarms go by, each with its labels. A test of the whole process holds that they exist.
const (
	IngestSamples     = "ingestgw_ingest_samples_total"
	IngestRequests    = "ingestgw_ingest_requests_total" // answer
	IngestInFlight    = "ingestgw_ingest_requests_in_flight"
	IngestDuration    = "ingestgw_ingest_request_duration_seconds"
	IngestFuture      = "ingestgw_ingest_future_requests_total" // with timestamps far ahead of our clock
	CertificateExpiry = "ingestgw_ingest_certificate_expiry_timestamp_seconds"
	LimitPeers        = "ingestgw_limit_peers"

	BufferBlocks         = "ingestgw_buffer_blocks_total" // lane, result
	BufferInFlightBytes  = "ingestgw_buffer_in_flight_bytes"
	BufferAppendDuration = "ingestgw_buffer_append_duration_seconds"

	DiskBytes       = "ingestgw_disk_bytes"       // lane
	DiskQuota       = "ingestgw_disk_quota_bytes" // lane
	DiskFree        = "ingestgw_disk_free_bytes"
	DiskReserve     = "ingestgw_disk_reserve_bytes"
	DiskCapacity    = "ingestgw_disk_capacity_bytes"
	DiskFsync       = "ingestgw_disk_fsync_seconds"
	DiskFsyncErrors = "ingestgw_disk_fsync_errors_total"
	DiskWriteErrors = "ingestgw_disk_write_errors_total"

	KafkaReachable       = "ingestgw_kafka_reachable"
	KafkaUnreachable     = "ingestgw_kafka_unreachable_seconds"
	KafkaTries           = "ingestgw_kafka_tries_total"  // result
	KafkaBlocks          = "ingestgw_kafka_blocks_total" // lane, result
	KafkaPartitions      = "ingestgw_kafka_partitions"   // topic
	KafkaUnderReplicated = "ingestgw_kafka_under_replicated_partitions"
	KafkaLeaderless      = "ingestgw_kafka_leaderless_partitions"
	KafkaThrottled       = "ingestgw_kafka_throttled_seconds_total"
	KafkaRetention       = "ingestgw_kafka_retention_seconds" // topic
	KafkaUnowned         = "ingestgw_kafka_unowned_partitions"
	KafkaMembers         = "ingestgw_kafka_group_members"
	KafkaUnsafe          = "ingestgw_kafka_topic_unsafe" // topic, setting

	// What a Backlog is made of: lane, partition.
	UnsentBlocks   = "ingestgw_forward_unsent_blocks"
	UnsentBytes    = "ingestgw_forward_unsent_bytes_estimate"
	UnsentSamples  = "ingestgw_forward_unsent_samples_estimate"
	UnsentAge      = "ingestgw_forward_oldest_unsent_age_seconds"
	ArrivingBlocks = "ingestgw_forward_arriving_blocks_per_second"
	SentBlocks     = "ingestgw_forward_sent_blocks_per_second"
	TimeToDrain    = "ingestgw_forward_time_to_drain_seconds"

	UncommittedBlocks = "ingestgw_forward_uncommitted_blocks" // lane, partition
	OnHold            = "ingestgw_forward_on_hold"            // lane, partition
	LostBlocks        = "ingestgw_forward_lost_blocks_total"  // reason
	MalformedBlocks   = "ingestgw_forward_malformed_blocks_total"

	ForwardSamples  = "ingestgw_forward_samples_total"            // node
	ForwardRequests = "ingestgw_forward_requests_total"           // node, code
	ForwardDuration = "ingestgw_forward_request_duration_seconds" // node
	NodeState       = "ingestgw_forward_node_state"               // node, state
	NodeInFlight    = "ingestgw_forward_blocks_in_flight"         // node
	WaitingBlocks   = "ingestgw_forward_waiting_for_permit"       // lane
	UnsettledBlocks = "ingestgw_forward_unsettled_blocks"
	UnsettledAge    = "ingestgw_forward_unsettled_seconds"
	SettledBlocks   = "ingestgw_forward_settled_blocks_total"
	SettleMode      = "ingestgw_forward_settle_mode" // mode
	ResentBlocks    = "ingestgw_forward_resent_blocks_total"
	CanaryAge       = "ingestgw_canary_age_seconds" // path, node

	Tenants                  = "ingestgw_tenants"
	TenantSamples            = "ingestgw_tenant_samples_total"             // tenant
	TenantBulkSamples        = "ingestgw_tenant_bulk_samples_total"        // tenant
	TenantOldSamples         = "ingestgw_tenant_old_samples_total"         // tenant
	TenantRefusedSamples     = "ingestgw_tenant_refused_samples_total"     // tenant, reason
	TenantIdentified         = "ingestgw_tenant_requests_identified_total" // result
	TenantRefusedCredentials = "ingestgw_tenant_refused_credentials"
	TenantFileReload         = "ingestgw_tenant_file_last_reload_successful"
	DirectoryBreaker         = "ingestgw_tenant_directory_breaker_open"
	DirectoryStaleAge        = "ingestgw_tenant_directory_stale_age_seconds"
	KeySetReads              = "ingestgw_tenant_jwt_key_set_reads_total" // result
	KeySetAge                = "ingestgw_tenant_jwt_key_set_age_seconds"

	MemoryGOGC        = "ingestgw_memory_gogc_percent"
	MemoryLimit       = "ingestgw_memory_limit_bytes"
	MemoryDiffers     = "ingestgw_memory_differs"
	MemoryGCShare     = "ingestgw_memory_gc_share"
	MemoryAssistShare = "ingestgw_memory_gc_assist_share"
	MemoryCounted     = "ingestgw_memory_counted_bytes"
	MemoryBudget      = "ingestgw_memory_budget_bytes"      // budget
	MemoryBudgetUsed  = "ingestgw_memory_budget_used_bytes" // budget

	ProcessCPU      = "process_cpu_seconds_total"
	ProcessResident = "process_resident_memory_bytes"
	ProcessStart    = "process_start_time_seconds"
)

// OtherTenants is the value of the label tenant for all those that are not told apart.
const OtherTenants = "other"
