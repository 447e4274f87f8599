package status

// The metrics that the page and the API show. A test of the whole process holds that they exist.
const (
	mSamplesIn    = "ingestgw_ingest_samples_total"
	mRequests     = "ingestgw_ingest_requests_total" // answer
	mReading      = "ingestgw_ingest_requests_in_flight"
	mRequestTime  = "ingestgw_ingest_request_duration_seconds"
	mStored       = "ingestgw_buffer_blocks_total" // lane, result
	mGathering    = "ingestgw_buffer_in_flight_bytes"
	mAppendTime   = "ingestgw_buffer_append_duration_seconds"
	mDiskBytes    = "ingestgw_disk_bytes"       // lane
	mDiskQuota    = "ingestgw_disk_quota_bytes" // lane
	mDiskFree     = "ingestgw_disk_free_bytes"
	mUnsentBlocks = "ingestgw_forward_unsent_blocks" // lane, partition, as the next ones
	mUnsentBytes  = "ingestgw_forward_unsent_bytes_estimate"
	mUnsentCount  = "ingestgw_forward_unsent_samples_estimate"
	mUnsentAge    = "ingestgw_forward_oldest_unsent_age_seconds"
	mArriving     = "ingestgw_forward_arriving_blocks_per_second"
	mSending      = "ingestgw_forward_sent_blocks_per_second"
	mDrain        = "ingestgw_forward_time_to_drain_seconds"
	mUncommitted  = "ingestgw_forward_uncommitted_blocks"
	mOnHold       = "ingestgw_forward_on_hold"
	mSamplesOut   = "ingestgw_forward_samples_total"  // node
	mPosts        = "ingestgw_forward_requests_total" // node, code
	mPostTime     = "ingestgw_forward_request_duration_seconds"
	mNodeState    = "ingestgw_forward_node_state" // node, state
	mNodeBusy     = "ingestgw_forward_blocks_in_flight"
	mWaiting      = "ingestgw_forward_waiting_for_permit"
	mUnsettled    = "ingestgw_forward_unsettled_blocks"
	mUnsettledAge = "ingestgw_forward_unsettled_seconds"
	mSettled      = "ingestgw_forward_settled_blocks_total"
	mSettleMode   = "ingestgw_forward_settle_mode" // mode
	mResent       = "ingestgw_forward_resent_blocks_total"
	mTenantIn     = "ingestgw_tenant_samples_total"         // tenant
	mTenantBulk   = "ingestgw_tenant_bulk_samples_total"    // tenant
	mTenantNo     = "ingestgw_tenant_refused_samples_total" // tenant, reason
	mTenants      = "ingestgw_tenants"
	mGOGC         = "ingestgw_memory_gogc_percent"
	mMemoryLimit  = "ingestgw_memory_limit_bytes"
	mGCShare      = "ingestgw_memory_gc_share"
	mAssistShare  = "ingestgw_memory_gc_assist_share"
	mCounted      = "ingestgw_memory_counted_bytes"
	mReadable     = "ingestgw_canary_age_seconds" // path, node
	mDiffers      = "ingestgw_memory_differs"
	mBudget       = "ingestgw_memory_budget_bytes"      // budget
	mBudgetUsed   = "ingestgw_memory_budget_used_bytes" // budget
	mResident     = "process_resident_memory_bytes"
	mStarted      = "process_start_time_seconds"
)
