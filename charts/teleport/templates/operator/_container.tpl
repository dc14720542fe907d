{{/* The operator, in auth's pod or in its own. */}}
{{- define "teleport.operatorContainer" -}}
{{- $part := dict "root" . "name" "operator" "values" .Values.operator -}}
{{- $embedded := include "teleport.embedded" . -}}
- name: operator
  {{- include "teleport.containerSettings" $part | nindent 2 }}
  command: [python, -m, teleport_operator]
  env:
    - {name: TELEPORT_OPERATOR_CONFIG, value: /etc/teleport.yaml}
    - {name: TELEPORT_OPERATOR_LEASE, value: {{ include "teleport.component" $part }}}
    - {name: TELEPORT_OPERATOR_DIAG_ADDR, value: "0.0.0.0:3001"}
    - {name: TELEPORT_OPERATOR_LOG_SEVERITY, value: {{ .Values.operator.logSeverity }}}
    - {name: TELEPORT_OPERATOR_DOCUMENTS, value: /etc/teleport/documents}
    {{- if not .Values.operator.clusterWide }}
    - {name: TELEPORT_OPERATOR_NAMESPACES, value: {{ include "teleport.operatorNamespaces" . | quote }}}
    {{- end }}
    {{- with .Values.operator.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $secret := default .Values.storage.dynamodb.credentialsSecretName .Values.storage.dynamodb.operatorCredentialsSecretName }}
  {{- include "teleport.storageEnv" (dict "secret" $secret "type" .Values.storage.type) | nindent 2 }}
  ports:
    - {name: operator-diag, containerPort: 3001}
  livenessProbe:
    httpGet: {path: /healthz, port: operator-diag}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  {{- if not $embedded }}
  readinessProbe:
    httpGet: {path: /readyz, port: operator-diag}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 3
  {{- else }}
  # No readiness here: it would take auth out of its Service whenever the API server is away.
  {{- end }}
  securityContext:
    {{- include "teleport.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "teleport.authMounts" . | nindent 4 }}
    - {name: documents, mountPath: /etc/teleport/documents, readOnly: true}
    - {name: api-access, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
    {{- with .Values.operator.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "teleport.operatorVolumes" -}}
- name: documents
  configMap:
    name: {{ include "teleport.fullname" . }}-documents
# What a pod gets by default, but for this container only.
- name: api-access
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "teleport.operatorNamespaces" -}}
{{- prepend .Values.operator.namespaces .Release.Namespace | uniq | join "," -}}
{{- end -}}

{{/* The account that the operator acts as. */}}
{{- define "teleport.operatorAccount" -}}
{{- if include "teleport.embedded" . -}}
{{- include "teleport.serviceAccountName" (dict "root" . "name" "auth" "values" .Values.auth) -}}
{{- else -}}
{{- include "teleport.serviceAccountName" (dict "root" . "name" "operator" "values" .Values.operator) -}}
{{- end -}}
{{- end -}}
